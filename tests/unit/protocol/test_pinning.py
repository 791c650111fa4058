from retire_cluster import credentials
from retire_cluster.protocol import pinning

SECRET = "rcd_" + "5" * 64
HERE, ELSEWHERE = "a" * 64, "b" * 64
NONCE = "c" * 64


def answer(fingerprint: str = HERE, device_id: str = "nuc", nonce: str = NONCE) -> str:
    return pinning.proof(credentials.digest(SECRET), device_id, nonce, fingerprint)


def holds(said: object, fingerprint: str = HERE) -> bool:
    return pinning.holds(said, pinning.key_of(SECRET), "nuc", NONCE, fingerprint)


def test_who_knows_the_secret_s_hash_and_shows_the_certificate_is_believed() -> None:
    assert holds(answer())


def test_an_answer_passed_on_from_behind_another_certificate_is_not() -> None:
    assert not holds(answer(fingerprint=ELSEWHERE))


def test_an_answer_to_another_question_is_not() -> None:
    assert not holds(answer(nonce="d" * 64))
    assert not holds(answer(device_id="other"))


def test_nonsense_is_not() -> None:
    for said in (None, 5, "", "é" * 64, answer()[:-1], [answer()]):
        assert not holds(said)
