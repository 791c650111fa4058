"""Routes under /api/v1/."""

from retire_cluster.api.routers import OptionalSlashRouter
from tasks.views import TaskViewSet

router = OptionalSlashRouter()
router.register("tasks", TaskViewSet, basename="task")
urlpatterns = router.urls
