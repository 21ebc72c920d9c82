// Moves the focus through a list with the arrow keys, or J and K.

const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

/** Focus the previous or next element; true if the key was one of these. */
export function moveFocus(event, elements, from = event.target) {
  const step = STEPS[event.key];
  if (!step || !elements.includes(from)) return false;
  elements[elements.indexOf(from) + step]?.focus();
  event.preventDefault();
  return true;
}
