"""Who speaks: identities, sealed announcements, certificates."""
