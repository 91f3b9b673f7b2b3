"""The names of every registered distribution, earlier versions included."""

import task_distributions


def with_earlier_versions():
    """Return the names, each followed by those of its versions that are not the newest."""
    names = task_distributions.names()
    return tuple(key for name in names for key in (name, *task_distributions.versions(name)[:-1]))
