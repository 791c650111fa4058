"""Routes that work with and without a trailing slash, without a redirect."""

from rest_framework.routers import SimpleRouter


class OptionalSlashRouter(SimpleRouter):
    """Every route ends in an optional slash: a redirect would lose a POST's body."""

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"
