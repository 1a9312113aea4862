import pyarrow.parquet as pq, json
from dataclasses import dataclass
@dataclass
class VideoIndex:
    table: object
    classes: list
    fingerprint: str = "x"
def load_index(url):
    return VideoIndex(pq.read_table(url+"/t.parquet"), json.load(open(url+"/classes.json")))
