"""Times with seconds, which sort and compare as text: an operator holds them against a log."""

DATETIME_FORMAT = "Y-m-d H:i:s"
