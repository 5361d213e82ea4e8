"""`verify`: database against files. Ends with 1 where something that is needed is lost."""

from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser

from curation.services import file_upkeep
from embedded.services import services_at_hand

MOST_SHOWN = 50


class Command(BaseCommand):
    help = "Compare the database with the stored files: missing, changed, not needed any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--quick", action="store_true", help="Compare sizes; do not read every file."
        )
        parser.add_argument(
            "--mend",
            action="store_true",
            help="Delete what nothing has needed for the grace time, remove what killed processes "
            "left, and set changed files aside, so that storing their content again mends them.",
        )

    def handle(self, *args: Any, quick: bool, mend: bool, **options: Any) -> None:
        with services_at_hand(settings.VAR):
            found = file_upkeep.compare(read=not quick)
            self._list("Missing", found.missing)
            self._list("Changed", found.changed)
            self._list("Unknown to the database", found.without_row)
            self._list("Not needed by anything", found.unreferenced, told=False)
            self._list("Without a row", found.stray, told=False)
            if mend:
                self._mend(found)
        self.stdout.write(f"{found.files:,} files of {found.bytes:,} bytes are needed.")
        if not found.is_whole:
            lost = len(found.missing) + len(found.changed) + len(found.without_row)
            raise CommandError(f"{lost} files that are needed are lost; see docs/how-to/backup.md.")

    def _list(self, heading: str, names: list[str], told: bool = True) -> None:
        if names:
            self.stdout.write(f"{heading}: {len(names)}")
        for name in names[:MOST_SHOWN]:
            self.stdout.write(f"  {file_upkeep.describe(name) if told else name}")

    def _mend(self, found: file_upkeep.Comparison) -> None:
        for sha256 in found.changed:
            file_upkeep.set_damaged_aside(sha256)
        folders = file_upkeep.remove_abandoned_work()
        freed = file_upkeep.free_unreferenced()
        self.stdout.write(
            f"Mended: {freed.bytes:,} bytes of {freed.files} files freed, {folders} work folders "
            f"removed, {len(found.changed)} changed files set aside."
        )
