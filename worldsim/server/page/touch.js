// Controls for fingers, made from the world's key map: a pad for up, down, left and right, a button for every other.

const WAYS = ["up", "down", "left", "right"];
const REST = 0.22; // share of the pad's half width that is no direction
const SLANT = Math.tan(Math.PI / 8); // eight equal sectors

// controls: channel -> key names; the first key of a channel stands for it.
export function buildTouch(root, controls, held) {
  root.replaceChildren();
  const ways = WAYS.filter((way) => way in controls);
  const left = element("div", "side"), right = element("div", "side buttons");
  if (ways.length) left.append(pad(controls, ways, held));
  for (const channel of Object.keys(controls).filter((name) => !ways.includes(name))) {
    const side = !ways.length && channel.endsWith("-") ? left : right;
    side.append(button(channel, controls[channel][0], held));
  }
  root.append(left, right);
}

function button(channel, key, held) {
  const made = element("button", "round");
  made.textContent = channel;
  made.dataset.key = key;
  hold(made, () => [key], held);
  return made;
}

function pad(controls, ways, held) {
  const made = element("div", "pad");
  for (const way of ways) {
    const arm = element("span", `arm ${way}`);
    arm.dataset.key = controls[way][0];
    made.append(arm);
  }
  const names = (event) => directions(made, event).filter((way) => ways.includes(way)).map((way) => controls[way][0]);
  hold(made, names, held);
  return made;
}

function directions(target, event) {
  const box = target.getBoundingClientRect();
  const x = (2 * (event.clientX - box.left)) / box.width - 1;
  const y = (2 * (event.clientY - box.top)) / box.height - 1;
  if (Math.hypot(x, y) < REST) return [];
  const out = [];
  if (Math.abs(x) > SLANT * Math.abs(y)) out.push(x < 0 ? "left" : "right");
  if (Math.abs(y) > SLANT * Math.abs(x)) out.push(y < 0 ? "up" : "down");
  return out;
}

// While a finger is down on the target, names(event) are held; it may slide, and leave the target.
export function hold(target, names, held) {
  const sources = new Map();
  const press = (event) => held.set(sources.get(event.pointerId), names(event), event.timeStamp);
  target.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    target.setPointerCapture(event.pointerId);
    sources.set(event.pointerId, `finger ${event.pointerId}`);
    press(event);
  });
  target.addEventListener("pointermove", (event) => sources.has(event.pointerId) && press(event));
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    target.addEventListener(end, (event) => {
      if (sources.has(event.pointerId)) held.set(sources.get(event.pointerId), [], event.timeStamp);
      sources.delete(event.pointerId);
    });
  }
  target.addEventListener("contextmenu", (event) => event.preventDefault());
}

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
