"""What holds for every test: how long an example takes is no property of the code, but of the machine."""

from hypothesis import settings

settings.register_profile("remediator", deadline=None)
settings.load_profile("remediator")
