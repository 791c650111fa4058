"""What the admin pages of all apps share: their base classes, columns, filters, actions and the paginator."""
