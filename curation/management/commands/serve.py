"""`serve`: the whole site on this machine, until Ctrl-C."""

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser, call_command

from embedded.site import SiteSettings, start_site
from embedded.supervisor import AlreadyRunning, ProcessFailed, Supervisor


def migrate() -> None:
    """Bring the database and the static files up to date."""
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)


class Command(BaseCommand):
    help = "Start database, broker, web server and workers, and stop them together."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        settings = SiteSettings(port=port)
        try:
            with Supervisor(settings.var) as supervisor:
                address = start_site(supervisor, settings, migrate=migrate)
                self.stdout.write(f"Hunch runs at {address} (Ctrl-C stops it)")
                supervisor.watch()
        except (AlreadyRunning, ProcessFailed) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")
