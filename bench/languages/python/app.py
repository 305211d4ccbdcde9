import time


def handler(event, context):
    return event


def waits(event, context):
    """As long as a small query to a database takes."""
    time.sleep(0.01)
    return event
