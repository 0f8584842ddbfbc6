"""The commands: each module adds its own to the group in :mod:`facelatent.cli`; nothing else imports them."""
