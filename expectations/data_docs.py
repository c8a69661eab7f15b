"""Data Docs: Great Expectations' own pages about this run, below `var/data_docs`."""

from pathlib import Path

from great_expectations.data_context import AbstractDataContext

from shoplens.files import whole_folder
from shoplens.settings import Settings


def data_docs_index(settings: Settings) -> Path:
    """Return the page to open; it exists after a validation on this machine."""
    return settings.var_dir / "data_docs" / "index.html"


def build_data_docs(context: AbstractDataContext, settings: Settings) -> Path:
    """Build the pages of what `context` has validated, in place of the pages of the run before."""
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
