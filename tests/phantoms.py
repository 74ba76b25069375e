"""Phantoms small enough for tests."""


def small(body, films=24):
    """The corpora argument for a few phantoms of 48 px; the seed gives 24 films classes in every split."""
    return {"phantom": {"body": body, "films": films, "size": 48, "seed": 2}}
