"""The URLs of the test suite; tests set their own."""

urlpatterns: list[object] = []
