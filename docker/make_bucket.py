"""Make the S3 bucket of the DVC remote, unless it is there. Run inside the pipeline image by docker-compose.yml."""

import os
import sys

import s3fs


def main() -> None:
    """Make `S3_BUCKET` on `S3_ENDPOINT`, with the keys that boto reads from the environment."""
    bucket = os.environ["S3_BUCKET"]
    store = s3fs.S3FileSystem(endpoint_url=os.environ["S3_ENDPOINT"])
    made = not store.exists(bucket)
    if made:
        store.mkdir(bucket)
    sys.stdout.write(f"bucket {bucket}: {'made' if made else 'was there'}\n")


if __name__ == "__main__":
    main()
