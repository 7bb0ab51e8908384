"""Settings of the click tests."""

from hypothesis import settings

# A busy machine is no reason for a property to fail.
settings.register_profile("clicks", deadline=None)
settings.load_profile("clicks")
