"""What handlers of one object remember while it and this process live."""


class Memo(dict):
    """A dictionary whose keys are also attributes."""

    def __getattr__(self, key):
        try:
            return self[key]
        except KeyError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, key, value):
        self[key] = value

    def __delattr__(self, key):
        try:
            del self[key]
        except KeyError as error:
            raise AttributeError(str(error)) from None

    def __copy__(self):
        return type(self)(self)
