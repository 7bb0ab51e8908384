"""The colours of labels, the same in pictures and in files."""

import colorsys

from deepedit.boxes import three

# Told apart by people with colour vision deficiency too. Source: Okabe and Ito, Color Universal Design, 2008.
PALETTE = ((86, 180, 233), (230, 159, 0), (0, 188, 135), (240, 128, 190), (240, 228, 66), (213, 94, 0), (90, 120, 230))
BACKGROUND_COLOUR = (255, 255, 255)


def colour(label: int) -> tuple[int, int, int]:
    """RGB of a class index; white for the background."""
    if label <= len(PALETTE):
        return PALETTE[label - 1] if label else BACKGROUND_COLOUR
    # Steps of the golden ratio around the colour wheel keep neighbours far apart, however many there are.
    return three(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.65, 0.95))
