"""Routes under /api/v1/."""

from clusterconfig.views import AuditViewSet, JoinTokenViewSet, KeyViewSet, TicketViewSet
from retire_cluster.api.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("keys", KeyViewSet, basename="key")
router.register("join-tokens", JoinTokenViewSet, basename="join-token")
router.register("ws-tickets", TicketViewSet, basename="ws-ticket")
router.register("audit", AuditViewSet, basename="audit")
urlpatterns = router.urls
