"""The sets of drawings that the storybook world is made of, one for each hand: which, whose, and their hashes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("runs/storybook")  # where the drawings are, unless said otherwise


@dataclass(frozen=True)
class DrawingSet:
    """One hand's drawings: an npm package, exactly one version of it, and whom to thank."""

    hand: str
    title: str
    package: str
    version: str
    sha512: str  # of the package, in base64, as npm writes it under "integrity"
    sha256: str  # of the icons.json in it, in hexadecimal
    author: str
    licence: str  # SPDX
    source: str

    def file(self, folder: Path) -> Path:
        """Where the drawings are once fetched."""
        return folder / f"{self.hand}.json"

    def is_in(self, folder: Path) -> bool:
        """Whether the drawings are in the folder, whole."""
        file = self.file(folder)
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


_FLUENT = ("Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji")
_NOTO = ("Google Inc.", "Apache-2.0", "https://github.com/googlefonts/noto-emoji")

SETS = (
    DrawingSet(
        "flat",
        "Fluent Emoji Flat",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        *_FLUENT,
    ),
    DrawingSet(
        "shaded",
        "Noto Emoji",
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
        *_NOTO,
    ),
    DrawingSet(
        "blob",
        "Noto Emoji, first edition",
        "@iconify-json/noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "ce70d8aa90345cf389875c3571ecd245bd943401822a0c5a0f62336bf8487333",
        *_NOTO,
    ),
    DrawingSet(
        "soft",
        "Firefox OS Emoji",
        "@iconify-json/fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "d8ef67b94a32d0abcd314d1c35db56178eaa8fa8ad71130e312f3460e307c2bf",
        "Mozilla Foundation",
        "CC-BY-4.0",  # of the drawings; the Apache-2.0 that the package names is for the code beside them
        "https://github.com/mozilla/fxemoji",
    ),
    DrawingSet(
        "ink",
        "Fluent Emoji High Contrast",
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        "c522fb74fef65ccef67b38dfdbf0f3dcd4353339e4b8faec4aa45faf83ed4739",
        *_FLUENT,
    ),
)

# Never in any training of the bundled model: hands for it to adapt to.
HELD_OUT = (
    DrawingSet(
        "twemoji",
        "Twemoji",
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
        "Twitter, Inc. and contributors",
        "CC-BY-4.0",
        "https://github.com/jdecked/twemoji",
    ),
    DrawingSet(
        "openmoji",
        "OpenMoji",
        "@iconify-json/openmoji",
        "1.2.29",
        "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
        "7075331faab544067dbff4236471dd378bb5410aa05799a8a343c9ebf5c5984c",
        "OpenMoji",
        "CC-BY-SA-4.0",
        "https://github.com/hfg-gmuend/openmoji",
    ),
)
