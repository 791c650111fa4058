"""The API without data: everything asked of it is asked of the gateway, on another machine."""
