from django.urls import include, path

urlpatterns = [
    path("", include("fieldnotes.urls")),
    path("control-room/", include("control_room.urls")),
]
