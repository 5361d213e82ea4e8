"""`make_bucket`: the bucket that S3_BUCKET names, private, unless it is there."""

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import default_storage
from django.core.management import BaseCommand, CommandError, CommandParser

from curation.services.files import local_folder

PAUSE_SECONDS = 1.0
ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


class Command(BaseCommand):
    help = "Make the bucket for the files unless it is there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait", type=float, default=0.0, help="Seconds to wait for storage that starts."
        )

    def handle(self, *args: Any, wait: float, **options: Any) -> None:
        if local_folder() is not None:
            raise CommandError("Set S3_BUCKET: the files lie in a folder, not in a bucket.")
        ends_at = time.monotonic() + wait
        while True:
            try:
                self._make()
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > ends_at:
                    raise CommandError(f"The storage does not make the bucket: {error}") from error
                time.sleep(PAUSE_SECONDS)
            else:
                return

    def _make(self) -> None:
        bucket: Any = default_storage.bucket  # type: ignore[attr-defined]  # of S3Storage
        region = bucket.meta.client.meta.region_name
        # In the oldest region the protocol wants no word of where.
        elsewhere = region and region != "us-east-1"
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
        try:
            bucket.create(**where)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ALREADY:
                raise
            self.stdout.write(f"The bucket {bucket.name} is there.")
        else:
            self.stdout.write(f"Made the bucket {bucket.name}.")
