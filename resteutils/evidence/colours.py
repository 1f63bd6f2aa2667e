"""The colours of pictures and widgets."""

__all__ = ["OKABE_ITO"]

# Okabe and Ito's palette: told apart with any colour vision, and in grey.
OKABE_ITO = {
    "black": "#000000",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "purple": "#cc79a7",
}
