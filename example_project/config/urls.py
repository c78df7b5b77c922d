from django.urls import include, path

urlpatterns = [path("", include("fieldnotes.urls"))]
