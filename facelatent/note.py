"""The note in the pictures that are written: that a machine drew or changed what they show.

It is metadata: IPTC's DigitalSourceType in XMP, which viewers and platforms read, and the name of this software. It is
not signed, and it does not outlive a program that throws metadata away.
"""

from __future__ import annotations

from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

#: IPTC's words for what a picture is: a photo with generated parts, and a picture that is generated as a whole.
EDITED = "compositeWithTrainedAlgorithmicMedia"
GENERATED = "trainedAlgorithmicMedia"

SOFTWARE = "facelatent"
_SOFTWARE_TAG, _XMP_TAG = 0x0131, 700
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<xmp:CreatorTool>{software}</xmp:CreatorTool>"
    "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/{source}"
    "</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def xmp(source: str) -> str:
    """The XMP packet that says how a picture came about: :data:`EDITED` or :data:`GENERATED`."""
    return _XMP.format(software=SOFTWARE, source=source)


def note_options(format_name: str, source: str | None, exif: bytes | None = None) -> dict[str, Any]:
    """What Pillow is told to write of metadata: the note, and a photo's own EXIF block, byte for byte where it can be.

    Args:
        format_name: PNG, JPEG, WEBP, TIFF, GIF, MP4 (which Pillow does not write), or another, which holds no note.
        source: :data:`EDITED`, :data:`GENERATED`, or None for no note.
        exif: block to keep. Its own ``Software`` stays, as it says what took the photo.
    """
    options: dict[str, Any] = {"exif": exif} if exif and format_name in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    if source is None:
        return options
    if format_name == "PNG":
        info = PngInfo()
        info.add_text("Software", SOFTWARE)
        info.add_itxt("XML:com.adobe.xmp", xmp(source))
        return {**options, "pnginfo": info}
    if format_name in ("JPEG", "WEBP"):
        return {"exif": _software_exif(), **options, "xmp": xmp(source).encode()}
    if format_name == "TIFF":
        return {"exif": _tiff_exif(exif, source)}
    if format_name in ("GIF", "MP4"):
        return {"comment": f"{SOFTWARE}: {source}".encode()}
    return options


def _software_exif() -> bytes:
    exif = Image.Exif()
    exif[_SOFTWARE_TAG] = SOFTWARE
    return exif.tobytes()


def _tiff_exif(kept: bytes | None, source: str) -> Image.Exif:
    """A TIFF's tags: those of an EXIF block, and the note."""
    exif = Image.Exif()
    if kept:
        exif.load(kept)
    exif.setdefault(_SOFTWARE_TAG, SOFTWARE)
    exif[_XMP_TAG] = xmp(source).encode()
    return exif
