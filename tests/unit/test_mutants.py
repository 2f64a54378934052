"""What `make mutants` copies is there, and it reads mutmut's words as mutmut says them."""

from tests.mutants import __main__ as mutants


def test_what_is_copied_is_there() -> None:
    assert [name for name in (*mutants.CODE, *mutants.TESTS) if not (mutants.ROOT / name).exists()] == []


def test_who_survived() -> None:
    told = """
    sagas.engine.decide.x_decide__mutmut_8: survived
    sagas.engine.state.x_saga_from__mutmut_1: no tests
    sagas.engine.fold.xǁFoldǁapply__mutmut_27: timeout
"""
    assert mutants.survivors(told) == [
        "sagas.engine.decide.x_decide__mutmut_8",
        "sagas.engine.state.x_saga_from__mutmut_1",
    ]
