"""Data Docs: Great Expectations' HTML report of the latest validation, in `var/data_docs`."""

from pathlib import Path

from great_expectations.data_context import AbstractDataContext

from shoplens.files import whole_folder
from shoplens.settings import Settings


def data_docs_index(settings: Settings) -> Path:
    """Return the path of the start page; it exists once a validation has run on this machine."""
    return settings.var_dir / "data_docs" / "index.html"


def build_data_docs(context: AbstractDataContext, settings: Settings) -> Path:
    """Render the validation results in `context`, replacing the pages of the previous run."""
    target = data_docs_index(settings).parent
    with whole_folder(target) as work:
        site = {
            "class_name": "SiteBuilder",
            "site_name": "ShopLens",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(work)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context.add_data_docs_site(site_name="shoplens", site_config=site)
        context.build_data_docs(site_names=["shoplens"])
    return data_docs_index(settings)
