from django.urls import path

from control_room import views

app_name = "control_room"
urlpatterns = [
    path("", views.room, name="room"),
    path("act/", views.act, name="act"),
]
