// Up and down among elements with the arrow keys, or J and K.

const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

/** Focus the element before or after the event's; true if the key was one of these. */
export function stepped(event, stops, from = event.target) {
  const step = STEPS[event.key];
  if (!step || !stops.includes(from)) return false;
  stops[stops.indexOf(from) + step]?.focus();
  event.preventDefault();
  return true;
}
