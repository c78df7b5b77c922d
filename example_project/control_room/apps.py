from django.apps import AppConfig


class ControlRoomConfig(AppConfig):
    name = "control_room"

    def ready(self) -> None:
        from control_room import records  # noqa: F401, PLC0415 - its receivers connect when it is imported
