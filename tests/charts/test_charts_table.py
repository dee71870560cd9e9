import xml.etree.ElementTree as ElementTree

from core.charts import anchor, linked_table

ROWS = [
    {"operation": "lm_head (tied)", "times": 1, "flop": 291_648_307_200},
    {"operation": "a <b>", "times": 3, "flop": 0},
]


def test_every_row_is_an_anchor_and_says_its_numbers():
    html = linked_table(ROWS, "operation")
    table = ElementTree.fromstring(html[html.index("<div") :])
    found = {row.get("id"): [cell.text for cell in row] for row in table.iter("tr") if row.get("id")}
    assert found == {
        "operation-lm-head-tied": ["lm_head (tied)", "1", "291,648,307,200"],
        "operation-a-b": ["a <b>", "3", None],
    }
    assert anchor("operation", ROWS[0]["operation"]) in found
