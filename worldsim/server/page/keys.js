// What is held: keyboard, buttons on the screen and fingers together, by the names that the server's worlds use.

const NAMES = {
  ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", " ": "space", Enter: "return",
  Escape: "escape", Tab: "tab", Backspace: "backspace", Delete: "delete",
};
const SIDED = { Shift: "shift", Control: "ctrl", Alt: "alt" };

export function nameOf(event) {
  if (event.key in SIDED) return `${event.location === 2 ? "right" : "left"} ${SIDED[event.key]}`;
  return NAMES[event.key] ?? event.key.toLowerCase();
}

// The browser's own name of a key, for programs that press keys.
export function browserKey(name) {
  return Object.keys(NAMES).find((key) => NAMES[key] === name) ?? name;
}

export class Held {
  // changed(at): called whenever what is held has changed, with the time of the event in ms.
  constructor(changed) {
    this.changed = changed;
    this.sources = new Map(); // what holds it: a key's code or an element -> names
  }

  names() {
    return [...new Set([...this.sources.values()].flat())].sort();
  }

  set(source, names, at) {
    const before = this.names().join();
    if (names.length) this.sources.set(source, names);
    else this.sources.delete(source);
    if (this.names().join() !== before) this.changed(at);
  }

  clear() {
    const some = this.sources.size > 0;
    this.sources.clear();
    if (some) this.changed(null);
  }
}

// Follow the keyboard. plays: set of names that are held; command(name): whether the key was one and was obeyed.
export function followKeyboard(held, plays, command) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey && !plays().has("left ctrl") && !plays().has("right ctrl")) return; // the browser's own
    if (event.metaKey || event.altKey) return;
    const name = nameOf(event);
    if (plays().has(name)) {
      if (!event.repeat) held.set(event.code, [name], event.timeStamp);
    } else if (event.repeat || !command(name)) {
      return;
    }
    event.preventDefault();
  });
  // By its place: a key may have another name on its way up, where Shift was pressed or let go in between.
  addEventListener("keyup", (event) => held.set(event.code, [], event.timeStamp));
  addEventListener("blur", () => held.clear());
}
