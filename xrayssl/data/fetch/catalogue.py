"""Openly licensed collections of radiographs, and where their publishers keep them.

Sizes and checksums are those that were published, or that several independent projects found alike (collected in 2026;
nothing was downloaded to write this). Where a checksum is not known, the field is empty and none is checked.
"""

from __future__ import annotations

from dataclasses import dataclass

_NIH_PAGE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
_NIH_STATIC = "https://nihcc.box.com/shared/static/"
_NIH_FILE = "https://nihcc.app.box.com/index.php?rm=box_download_shared_file&vanity_name=ChestXray-NIHCC&file_id=f_"
_NIH_ARCHIVES = (  # name at the host, bytes, MD5 as FAQ_CHESTXRAY.pdf of the same page has it (question 7)
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2_008_470_987, "fe8ed0a6961412fddcbb3603c11b3698"),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3_952_623_504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3_929_234_850, "2301d03bde4c246388bad3876965d574"),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3_838_903_983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3_935_496_531, "1861f3cd0ef7734df8104f2b0309023b"),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3_986_301_172, "456b53a8b351afd92a35bc41444c58c8"),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4_016_328_426, "1075121ea20a137b87f290d6a4a5965e"),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4_018_347_353, "b61f34cec3aa69f295fbb593cbd9d443"),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4_111_327_929, "442a3caa61ae9b64e61c561294d1e183"),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4_181_556_296, "09ec81c4c31e32858ad8cf965c494b74"),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4_187_084_020, "499aefc67207a5a97692424cf5dbeed5"),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2_914_187_733, "dc9fda1757c2de0032b63347a7d2895c"),
)
_NIH_TABLES = {"Data_Entry_2017_v2020.csv": "219760887468", "train_val_list.txt": "256056636701",
               "test_list.txt": "256055473534"}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One file of a collection.

    Args:
        url: Where it is.
        file: Name that it gets.
        size: In bytes, about; for people, and to see whether the disk has room.
        checksum: Such as "sha256:..." or "md5:..."; "" where none is known.
        into: Folder of the corpus that an archive's films come to lie in; "" for a file that is no archive.
    """

    url: str
    file: str
    size: int
    checksum: str = ""
    into: str = ""


@dataclass(frozen=True)
class Collection:
    """Films that may be downloaded.

    Args:
        title: What it is.
        licence: Under which it is published.
        cite: Whom to name with every result.
        page: Of the publisher, for people.
        parts: The files.
        films: How many there are.
        corpus: Name of the reader in xrayssl/data/corpora.
        root: Folder, below where it is fetched to, that the reader takes.
        options: For the reader.
    """

    title: str
    licence: str
    cite: str
    page: str
    parts: tuple[Part, ...]
    films: int
    corpus: str
    root: str = "."
    options: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(part.size for part in self.parts)


COLLECTIONS = {
    "uci_shoulder": Collection(
        title="UCI Machine Learning Repository #517, shoulder implants of four makers",
        licence="CC BY 4.0",
        cite="Urban et al. 2020, Computational and Structural Biotechnology Journal 18:967; doi 10.24432/C5F893",
        page="https://archive.ics.uci.edu/dataset/517",
        parts=(
            Part(
                "https://archive.ics.uci.edu/static/public/517/shoulder+implant+x+ray+manufacturer+classification.zip",
                "shoulder_implants.zip",
                7_000_000,
                into="dataset",
            ),
        ),
        films=597,
        corpus="uci_shoulder",
    ),
    "kermany": Collection(
        title="Kermany, Zhang, Goldbaum: paediatric chest films, normal and pneumonia (Mendeley Data rscbjbr9sj, v2)",
        licence="CC BY 4.0",
        cite="Kermany et al. 2018, Cell 172:1122; doi 10.17632/rscbjbr9sj.2",
        page="https://data.mendeley.com/datasets/rscbjbr9sj/2",
        parts=(
            Part(
                "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
                "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
                "ChestXRay2017.zip",
                1_235_512_464,
                "sha256:13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36",
                into="chest_xray",
            ),
        ),
        films=5_856,
        corpus="folder",
        root="chest_xray",
        options=(("patient", r"(.*(?:person|IM-)\d+)"),),  # numbers start anew in each split
    ),
    "nih": Collection(
        title="NIH Clinical Center, ChestX-ray14: frontal chest films with 14 findings",
        licence="no restriction on use; link the source, acknowledge the NIH Clinical Center, cite the paper",
        cite="Wang et al., CVPR 2017",
        page=_NIH_PAGE,
        parts=(
            *(Part(f"{_NIH_FILE}{number}", name, 10_000_000) for name, number in _NIH_TABLES.items()),
            *(
                Part(
                    f"{_NIH_STATIC}{key}.gz",
                    f"images_{place:03d}.tar.gz",
                    size,
                    f"md5:{md5}",
                    f"images_{place:03d}/images",
                )
                for place, (key, size, md5) in enumerate(_NIH_ARCHIVES, 1)
            ),
        ),
        films=112_120,
        corpus="nih",
    ),
}
