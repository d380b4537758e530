"""docs/operators.md is what the rules do now."""

import onnx

from docs.generate_operators import PAGE, page


def test_page_says_what_the_rules_do() -> None:
    """After a change to a rule: python -m docs.generate_operators"""
    assert PAGE.read_text().splitlines() == page().splitlines()


def test_every_standard_operator_has_a_rule() -> None:
    text = PAGE.read_text()
    assert "without a coupling rule" not in text
    for schema in onnx.defs.get_all_schemas_with_history():
        assert schema.domain or f"| {schema.name} |" in text
