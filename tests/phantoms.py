"""Phantoms small enough for tests."""


def small(body, films=24):
    """The corpora argument for a few phantoms of 48 px."""
    return {"phantom": {"body": body, "films": films, "size": 48}}
