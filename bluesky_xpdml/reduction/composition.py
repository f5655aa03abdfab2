"""Chemical formulas: the number of atoms of each element."""

import re
from collections.abc import Mapping

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.vocabulary import ReasonCode

_SYMBOLS = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y
    Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re
    Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf
"""
ELEMENTS = tuple(_SYMBOLS.split())
"""Symbols in the order of the atomic number, from hydrogen to californium."""
HOW_TO_GIVE = "give it as a formula such as 'TiO2' or a mapping such as {'Ti': 1, 'O': 2}"

_TOKEN = re.compile(
    r"(?P<symbol>[A-Z][a-z]?)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<dot>[.·*•])|(?P<blank>\s+)"
)
_NUMBER = re.compile(r"\s?(\d+\.?\d*|\.\d+)(?![\d.])")
_PAIRS = {")": "(", "]": "[", "}": "{"}
# O4.5H2O may mean 4.5 oxygen atoms, or one of four and five of water.
_UNCLEAR_HYDRATE = re.compile(r"\d\.\d+\(?H2O")


def parse_composition(composition: str | Mapping[str, float]) -> dict[str, float]:
    """Return the number of atoms of each element: 4 H and 9 O for `Zr(HPO4)2.H2O`.

    A formula may hold parentheses, decimal numbers, water of hydration after a dot, and blanks between its
    parts; a mapping goes from symbols to amounts. A ReductionError is raised if it is empty, names no known
    element, holds an amount that is not positive, or can be read in two ways.
    """
    if isinstance(composition, Mapping):
        amounts = {str(symbol): _amount(symbol, value) for symbol, value in composition.items()}
    else:
        amounts = _formula(str(composition))
    if not amounts:
        raise _unreadable(f"the composition is empty; {HOW_TO_GIVE}")
    for symbol, amount in amounts.items():
        if symbol not in ELEMENTS:
            raise _unreadable(f"expected the symbol of an element in the composition, found {symbol!r}")
        if not 0.0 < amount < 1e9:
            raise _unreadable(f"expected a positive amount of {symbol}, found {amount:g}")
    return amounts


def atom_fractions(composition: str | Mapping[str, float]) -> dict[str, float]:
    """Return the fraction of the atoms that each element makes up.

    It takes and refuses the same as `parse_composition`.

    Examples
    --------
    >>> atom_fractions("FeO3")
    {'Fe': 0.25, 'O': 0.75}
    """
    amounts = parse_composition(composition)
    total = sum(amounts.values())
    return {symbol: amount / total for symbol, amount in amounts.items()}


def formula(composition: Mapping[str, float]) -> str:
    """Write a composition as a formula that `parse_composition` reads.

    Examples
    --------
    >>> formula({"Ti": 1.0, "O": 2.0})
    'Ti O2'
    """
    parts = (f"{symbol}{amount:.8g}" if amount != 1 else symbol for symbol, amount in composition.items())
    return " ".join(parts)


def _unreadable(message: str) -> ReductionError:
    return ReductionError(message, ReasonCode.COMPOSITION_MISSING)


def _amount(symbol: object, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise _unreadable(f"expected the amount of {symbol} as a number, found {value!r}") from None


def _formula(text: str) -> dict[str, float]:
    """Read a formula with a stack of open groups; each part after a dot may begin with a factor."""
    _refuse_unclear(text)
    stack: list[tuple[str, dict[str, float]]] = [("", {})]
    total: dict[str, float] = {}
    factor, position = _number(text, 0)
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise _unreadable(
                f"cannot read {text[position:][:10]!r} in the composition {text!r}; {HOW_TO_GIVE}"
            )
        position = token.end()
        if token.lastgroup == "dot":
            _close_part(stack, total, factor, text)
            factor, position = _number(text, position)
        elif token.lastgroup != "blank":
            position = _take(token, stack, text, position)
    _close_part(stack, total, factor, text)
    return total


def _take(token: re.Match[str], stack: list[tuple[str, dict[str, float]]], text: str, position: int) -> int:
    """Put a symbol or a bracket on the stack; return the next position."""
    if token.lastgroup == "open":
        stack.append((token[0], {}))
        return position
    group = {token[0]: 1.0}
    if token.lastgroup == "close":
        opened, group = stack.pop() if len(stack) > 1 else ("", {})
        if opened != _PAIRS[token[0]]:
            raise _unreadable(f"the brackets of the composition {text!r} do not match")
    amount, position = _number(text, position)
    _add(stack[-1][1], group, amount)
    return position


def _close_part(
    stack: list[tuple[str, dict[str, float]]], total: dict[str, float], factor: float, text: str
) -> None:
    if len(stack) > 1:
        raise _unreadable(f"the brackets of the composition {text!r} do not match")
    _add(total, stack[0][1], factor)
    stack[0] = ("", {})


def _add(target: dict[str, float], group: Mapping[str, float], amount: float) -> None:
    for symbol, value in group.items():
        target[symbol] = target.get(symbol, 0.0) + amount * value


def _number(text: str, position: int) -> tuple[float, int]:
    """Return the number at a position, 1 if there is none, and its end."""
    found = _NUMBER.match(text, position)
    return (float(found[1]), found.end()) if found and found[1] != "." else (1.0, position)


def _refuse_unclear(text: str) -> None:
    hydrate = _UNCLEAR_HYDRATE.search(text)
    if hydrate:
        raise _unreadable(
            f"the composition {text!r} can be read in two ways at {hydrate[0]!r}: write the water of "
            "hydration in parentheses, such as CuSO4(H2O)5"
        )
