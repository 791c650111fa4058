from django.urls import path

from board import views

urlpatterns = [path("notes", views.create)]
