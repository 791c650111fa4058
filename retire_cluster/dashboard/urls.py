"""Where each page is. What can be read has an address to keep; what a button does is a POST below it."""

from django.urls import path

from retire_cluster.dashboard.pages import account, home

app_name = "dashboard"
urlpatterns = [
    path("", home.overview, name="overview"),
    path("sign-in/", account.sign_in, name="sign-in"),
    path("sign-in/once/", account.sign_in_once, name="sign-in-once"),
    path("sign-out/", account.sign_out, name="sign-out"),
    path("account/", account.account, name="account"),
]
