"""The kinds of what needs attention, by what they are about: how each is found and described."""
