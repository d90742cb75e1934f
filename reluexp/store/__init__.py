"""The results of a study on disk: what is written appears whole or not at all, and is known again by its checksum."""

from reluexp.store.lock import Shard
from reluexp.store.sealed import Depth
from reluexp.store.speed import recall_speed, remember_speed
from reluexp.store.store import Damage, Store, find_studies, find_study
from reluexp.store.tables import TABLES

__all__ = [
    "TABLES",
    "Damage",
    "Depth",
    "Shard",
    "Store",
    "find_studies",
    "find_study",
    "recall_speed",
    "remember_speed",
]
