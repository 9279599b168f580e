"""The driven side: repositories, and the wrappers that let callers share them."""
