// The page: a menu where there are several worlds, and the game.

import { Held, browserKey, followKeyboard } from "./keys.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { buildTouch, element, hold } from "./touch.js";

const $ = (id) => document.getElementById(id);
const canvas = $("picture");
const context = canvas.getContext("2d", { alpha: false });
const meter = new Meter();
const held = new Held((at) => send([], at));
const SPEEDS = { 1: "Full", 0.5: "1/2", 0.25: "1/4" };
const HINT = "H keys   Tab pause   Backspace rewind";
const OVER = "N for a new one, Backspace to take it back";

let worlds = []; // on the menu
let world = null; // what the server told of the one that is played
let link = null;
let place = 0;
let last = null; // header of the last picture
let note = ""; // the page's own word
let figuresDue = 0;
let helpPaused = false; // the game is paused only because the help is open

start();

async function start() {
  followKeyboard(held, () => plays(), command);
  $("again").addEventListener("click", () => play(place));
  $("quit").addEventListener("click", quit);
  document.addEventListener("visibilitychange", () => {
    held.clear();
    if (document.hidden && last?.mode === "play") order("pause");
  });
  new ResizeObserver(fit).observe($("stage"));
  matchMedia("(pointer: coarse)").addEventListener("change", showTouch);
  addEventListener("touchstart", showTouch, { once: true, passive: true });
  const answer = await fetch(`worlds${location.search}`);
  worlds = await answer.json();
  if (worlds.length === 1) {
    play(0);
    return;
  }
  $("quit").hidden = false;
  buildMenu();
  showMenu();
}

function buildMenu() {
  for (const [index, each] of worlds.entries()) {
    const card = element("button", "card");
    const image = element("img");
    image.src = `worlds/${index}/picture${location.search}`;
    image.alt = "";
    card.append(image, element("b", "", each.title), element("span", "muted", each.detail));
    card.addEventListener("click", () => play(index));
    $("cards").append(card);
  }
}

function showMenu() {
  document.body.dataset.state = "menu";
  document.title = "worldsim";
  $("game").hidden = true;
  $("menu").hidden = false;
  $("cards").children[place].focus();
}

function play(index) {
  leave();
  place = index;
  $("menu").hidden = true;
  $("game").hidden = false;
  curtain("connecting", "Loading the world", "a few seconds");
  link = new Link(index, { hello, picture, error, closed });
}

function quit() {
  leave();
  showMenu();
}

// The server gives the seat to another as soon as the connection is closed.
function leave() {
  link?.close();
  link = world = last = null;
  note = "";
  helpPaused = false;
  $("help").hidden = true;
  held.clear();
  meter.clear();
}

// --- what the server says ---

function hello(told) {
  world = told;
  document.title = `${told.title} - worldsim`;
  $("title").textContent = told.title;
  [canvas.width, canvas.height] = [told.width, told.height];
  buildCaps();
  buildBar();
  buildHelp();
  buildTouch($("touch"), told.controls, held);
  showTouch();
  fit();
}

function picture(header, bitmap) {
  context.drawImage(bitmap, 0, 0);
  canvas.dataset.shown = Number(canvas.dataset.shown ?? 0) + 1;
  canvas.dataset.answers = header.answers;
  canvas.dataset.step = header.step;
  meter.painted(header.answers);
  const changed = header.mode !== last?.mode || header.note !== last?.note || header.steps !== last?.steps;
  last = header;
  if (changed || performance.now() > figuresDue) tell();
}

function error(line) {
  note = line;
  words();
}

function closed(code, reason) {
  held.clear();
  const lost = "the server has ended, or the connection is lost";
  const title = { 1013: "No free seat", 4000: "Are you still there?" }[code] ?? "The game has ended";
  curtain("closed", title, reason || (code === 1000 ? "" : lost));
}

// --- what the player does ---

function plays() {
  return new Set(world ? [...Object.values(world.controls).flat(), world.rewind] : []);
}

function command(name) {
  if (name === "escape") return escape();
  if (!world) return false;
  if (name in world.own) {
    if (world.own[name] === "help") toggleHelp();
    else document.body.classList.toggle("bare");
    fit();
    return true;
  }
  if (!(name in world.commands)) return false;
  order(world.commands[name]);
  return true;
}

// Leave the help, else the game; whether there was something to leave.
function escape() {
  if (!$("help").hidden) toggleHelp();
  else if (link && worlds.length > 1) quit();
  else return false;
  return true;
}

// The game rests while the help is open.
function toggleHelp() {
  const closes = !$("help").hidden;
  $("help").hidden = closes;
  const rests = closes ? helpPaused : last?.mode === "play";
  if (rests) order("pause");
  helpPaused = rests && !closes;
}

// at: when the browser took the input from the system, in ms; none for what nobody pressed.
function send(commands = [], at = null) {
  if (!link?.open || !world) return;
  const known = plays();
  link.say(held.names().filter((name) => known.has(name)), commands);
  canvas.dataset.sent = link.number;
  if (last?.mode === "play" && at !== null) meter.pressed(link.number, at);
  lightKeys();
}

function order(name) {
  if (name === "pause" || name === "new") helpPaused = false; // from here on the player's own choice
  send([name]);
}

// --- what is drawn ---

function tell() {
  figuresDue = performance.now() + 250;
  const state = { play: "playing", rewind: "playing", repaint: "playing" }[last.mode] ?? last.mode;
  if (state === "pause") curtain("pause", "Paused", touching() ? "" : "Tab goes on, . paints one frame");
  else if (state === "over") curtain("over", `Round over at ${signed(last.score)}`, touching() ? "" : OVER);
  else document.body.dataset.state = "playing";
  $("score").textContent = signed(last.score);
  const ms = (value) => (value === null ? "-" : `${value.toFixed(0)} ms`);
  const rows = [
    ["shown", meter.fps === null ? "-" : `${meter.fps.toFixed(1)} frames/s`],
    ["game", `${last.game_fps.toFixed(1)} frames/s`],
    ["key to frame", ms(meter.quantile(0.5))],
    ["p95", ms(meter.quantile(0.95))],
    ["steps a frame", last.steps],
    ["memory", `${world.memory} frames`],
    ["frame", last.step],
    ["seed", last.seed],
    ["player", last.hands],
  ];
  $("figures").replaceChildren(...rows.map(([label, value]) => {
    const row = element("div");
    row.append(element("dt", "", label), element("dd", "", value));
    return row;
  }));
  for (const button of $("bar").querySelectorAll("[data-command]")) {
    const name = button.dataset.command;
    const on = { pause: last.mode === "pause", hands: last.hands !== "you", slower: last.full_fps < world.fps };
    button.setAttribute("aria-pressed", on[name] ?? String(last.steps) === name);
    if (name === "slower") button.lastChild.textContent = `${SPEEDS[last.full_fps / world.fps] ?? "Slow"} speed`;
  }
  words();
}

function words() {
  const said = last?.note || note;
  $("words").textContent = said || (touching() ? "" : HINT + (worlds.length > 1 ? "   Esc quit" : ""));
  $("words").classList.toggle("urgent", Boolean(said));
}

function curtain(state, title, text) {
  document.body.dataset.state = state;
  $("curtain-title").textContent = title;
  $("curtain-text").textContent = text;
  $("again").hidden = state !== "closed";
  if (state === "closed") $("words").textContent = text;
}

function signed(score) {
  return score > 0 ? `+${score}` : String(score);
}

// Each of the world's pixels a square of whole screen pixels, as large as fits.
function fit() {
  if (!world) return;
  const ratio = devicePixelRatio || 1;
  const { clientWidth, clientHeight } = $("stage");
  const most = Math.min((clientWidth * ratio) / world.width, (clientHeight * ratio) / world.height);
  const scale = Math.max(1, Math.floor(most)) / ratio;
  canvas.style.width = `${world.width * scale}px`;
  canvas.style.height = `${world.height * scale}px`;
}

function buildCaps() {
  const names = [...new Set([...Object.values(world.controls).flat(), world.rewind])];
  $("caps").replaceChildren(...names.map((name) => {
    const cap = element("kbd", "", { up: "▲", down: "▼", left: "◀", right: "▶" }[name] ?? name);
    cap.dataset.key = name;
    return cap;
  }));
}

function lightKeys() {
  const lit = new Set(held.names());
  for (const each of document.querySelectorAll("[data-key]")) each.classList.toggle("lit", lit.has(each.dataset.key));
}

function buildBar() {
  const bar = $("bar");
  bar.replaceChildren($("quit"));
  const keyOf = (name) => Object.keys(world.commands).find((key) => world.commands[key] === name) ?? "";
  const add = (name, label, parent = bar) => {
    const button = element("button");
    button.dataset.command = name;
    button.append(element("kbd", "", capital(keyOf(name))), element("span", "", label));
    button.title = `${label} (${capital(keyOf(name))})`;
    button.addEventListener("click", () => {
      order(name);
      button.blur(); // or space would press it again
    });
    parent.append(button);
  };
  add("pause", "Pause");
  add("new", "New round");
  const rewind = element("button");
  rewind.dataset.key = world.rewind;
  rewind.append(element("kbd", "", capital(world.rewind)), element("span", "", "Rewind"));
  rewind.title = "Hold to rewind";
  hold(rewind, () => [world.rewind], held);
  bar.append(rewind);
  const steps = element("div", "group");
  steps.title = "Network calls a frame";
  steps.append(element("span", "label", "Steps"));
  for (const choice of world.step_choices) add(String(choice), String(choice), steps);
  bar.append(steps);
  add("slower", "Full speed");
  add("hands", "Random");
}

function buildHelp() {
  const table = (title, rows) => {
    const made = element("div");
    made.append(element("h2", "", title));
    for (const [keys, meaning] of rows) {
      const row = element("p");
      row.append(element("kbd", "", keys), element("span", "muted", meaning));
      made.append(row);
    }
    return made;
  };
  const more = worlds.length > 1 ? [...world.help.more, ["Esc", "quit to the menu"]] : world.help.more;
  $("help").replaceChildren(table("Play", world.help.play), table("And more", more));
}

function touching() {
  return document.body.classList.contains("touching");
}

function showTouch(event) {
  if (event?.type === "touchstart" || matchMedia("(pointer: coarse)").matches) document.body.classList.add("touching");
  fit();
}

function capital(name) {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

// For programs that measure: the browser's names of the keys that play.
window.worldsim = { browserKeys: () => Object.values(world.controls).map(([first]) => browserKey(first)) };
