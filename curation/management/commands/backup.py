"""`backup`: the database and all files into a folder, while the site runs."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser

from curation.services import backups
from curation.services.files import LostFile
from embedded.services import services_at_hand


class Command(BaseCommand):
    help = "Write the database and all files into a folder. The same folder again is brought up "
    "to date: only new files are copied."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        try:
            with services_at_hand(settings.VAR):
                made = backups.back_up(folder=folder)
        except (backups.BackupError, LostFile) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{folder}: the database and {made.files} files of {made.bytes:,} bytes.")
