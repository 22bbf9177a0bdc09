"""EXIF, XMP, IPTC and colour profiles, as far as they are kept."""
