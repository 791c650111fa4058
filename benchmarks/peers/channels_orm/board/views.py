import json
import uuid

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import JsonResponse
from django.views.decorators.http import require_POST

from board.consumers import GROUP
from board.models import Note


@require_POST
def create(request):
    """Store a note, then tell the group."""
    note = Note.objects.create(id=uuid.uuid4(), data=json.loads(request.body))
    message = {"type": "note", "data": {"type": "note", "id": str(note.id), "data": note.data}}
    async_to_sync(get_channel_layer().group_send)(GROUP, message)
    return JsonResponse({"id": str(note.id)}, status=201)
