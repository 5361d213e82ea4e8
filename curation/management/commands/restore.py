"""`restore`: a backup in the place of this site's database and files."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser, call_command

from curation.services import backups
from embedded.services import services_at_hand
from embedded.supervisor import AlreadyRunning


class Command(BaseCommand):
    help = "Restore a backup, bring its tables up to date, and compare database and files. The "
    "site must not run meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument(
            "--replace", action="store_true", help="Drop what the database holds now."
        )

    def handle(self, *args: Any, folder: Path, replace: bool, **options: Any) -> None:
        try:
            with services_at_hand(settings.VAR, alone=True):
                manifest = backups.restore(folder=folder, replace=replace)
                call_command("migrate", verbosity=0)
                call_command("verify", stdout=self.stdout)
        except (AlreadyRunning, backups.BackupError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Restored the backup of {manifest.made_at}.")
