// The page: which faces are open, which one is shown, and what happens when something is touched.

import * as api from "./api.js";
import { newestOnly } from "./newest.js";
import { dropMove } from "./slider.js";
import * as sliders from "./sliders.js";
import * as stage from "./stage.js";
import * as style from "./style.js";
import * as tabs from "./tabs.js";

const element = (id) => document.getElementById(id);
const POLL = 500; // milliseconds between looks at a face that is being inverted
const SHARP = 60; // a preview that took at most so many milliseconds is drawn larger next time

const faces = new Map();
let limits = {};
let current = null;
let side = 256;

// Messages

let fading = 0;
function tell(message) {
  const toast = element("toast");
  toast.textContent = message;
  toast.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (toast.hidden = true), 8000);
}

function guarded(work) {
  return async (...given) => {
    try {
      return await work(...given);
    } catch (error) {
      if (error.status !== 409 || !/newer/.test(error.message)) tell(error.message);
      return null;
    }
  };
}

// Faces

function keep(state) {
  faces.set(state.id, state);
  listFaces();
  if (state.id === current) describe(state);
}

const drawable = (state) => ["refining", "ready"].includes(state.phase);
const busy = (state) => ["aligning", "inverting", "refining"].includes(state.phase);

function describe(state) {
  const can = drawable(state);
  stage.progress(state);
  element("undo").disabled = !can || !state.can_undo;
  element("redo").disabled = !can || !state.can_redo;
  element("reset").disabled = !can || !(Object.keys(state.look.alphas).length || state.look.holds.length || state.look.style);
  element("message").hidden = !state.message;
  element("message").textContent = state.message;
  showCommand(state.command);
  element("command-note").hidden = !state.needs_latent || !can;
  element("copy").disabled = !can;
  element("compare").hidden = !state.has_photo || !can;
  for (const button of document.querySelectorAll("[data-save]")) {
    button.disabled = !can;
    button.hidden = button.dataset.save === "photo" && !state.has_photo;
  }
  sliders.enable(can);
  style.enable(can);
  showPeople(state);
}

// An option and its value stay on one line where there is room; copied, it is one line.
function showCommand(command) {
  const parts = command.split(/ (?=-)/).flatMap((part) => {
    return [Object.assign(document.createElement("span"), { textContent: part }), " "];
  });
  element("command").replaceChildren(...parts.slice(0, -1));
}

function setControls(state) {
  sliders.write(state);
  style.write(state.look);
  sliders.enable(drawable(state));
}

function listFaces() {
  tabs.show([...faces.values()], current, busy, open, forget);
}

function open(id) {
  current = id;
  sessionStorage.setItem("face", id); // a page that is loaded again shows the same one
  const state = faces.get(id);
  element("start").hidden = true;
  element("work").hidden = false;
  element("add").hidden = false;
  stage.clear();
  setControls(state);
  listFaces();
  describe(state);
  refresh();
  poll();
}

function startPage(event) {
  element("work").hidden = true;
  element("start").hidden = false;
  element("add").hidden = true;
  element("back").hidden = !faces.has(current);
  if (event) element("choose").focus(); // the button that was pressed is gone
}

const forget = guarded(async (id) => {
  const state = faces.get(id);
  if (state.can_undo && !confirm(`Close ${state.name}? What was not saved is lost.`)) return;
  await drop(id);
});

async function drop(id) {
  faces.delete(id); // first, so that nothing asks for it any more
  listFaces();
  if (id === current) {
    current = null;
    const others = [...faces.keys()];
    if (others.length) open(others.at(-1));
    else startPage();
  }
  await api.close(id);
}

async function openFiles(files) {
  for (const file of files) await openFile(file);
}

const openFile = guarded(async (file) => {
  await begun; // a file may be dropped before that
  if (file.size > limits.max_upload) throw new Error(`${file.name} is too large: at most ${limits.max_upload >> 20} MB are taken`);
  const page = document.documentElement.classList;
  page.add("opening");
  try {
    await added(api.upload(file));
  } finally {
    page.remove("opening");
  }
});

async function added(opening) {
  const state = await opening;
  faces.set(state.id, state);
  open(state.id);
}

const openRandom = guarded(async () => {
  await begun;
  await added(api.sample(Math.floor(Math.random() * 10000)));
});

const showPeople = guarded((state) => tabs.showPeople(state, choosePerson));

// A face that is left before anything was done with it makes room for the one that was meant.
const choosePerson = guarded(async (number) => {
  const left = faces.get(current);
  if (number === left.number) return;
  await added(api.other(left.id, number));
  const unused = drawable(left) ? busy(left) && !left.can_undo && !left.can_redo : true;
  if (unused) await drop(left.id);
});

// Pictures

async function refresh() {
  await Promise.all([showPicture(), showBefore()]);
}

const showPicture = guarded(async () => {
  const state = faces.get(current);
  if (!state || !drawable(state)) return;
  const serial = stage.nextSerial();
  const picture = await api.picture(state.id);
  if (state.id === current) await stage.show(picture, serial, "full", state.command);
});

const showBefore = guarded(async () => {
  const state = faces.get(current);
  if (!state) return;
  const chosen = state.has_photo ? document.querySelector("[name=compare]:checked").value : "plain.jpg";
  if (chosen === "before.jpg" ? !state.aligned : !drawable(state)) return;
  const picture = await api.before(state.id, chosen);
  if (state.id === current) stage.showBefore(picture);
});

const preview = newestOnly(
  guarded(async () => {
    const id = current;
    const serial = stage.nextSerial();
    const began = performance.now();
    const picture = await api.preview(id, asked(), side);
    side = limits.preview_sides[performance.now() - began <= SHARP ? 1 : 0];
    if (id === current) await stage.show(picture, serial, "preview");
  }),
);

// Looks

const asked = () => ({ ...sliders.read(), ...style.read() });

// Whoever goes on while an answer is under way keeps what was touched: a later answer will set it.
let touches = 0;

async function settle(work) {
  const id = current;
  const touch = touches;
  const still = () => id === current && touch === touches;
  stage.busy(true);
  try {
    keep(await work(id));
  } finally {
    stage.busy(false);
    if (still()) setControls(faces.get(id));
  }
  if (still()) await showPicture();
}

function drag() {
  touches += 1;
  preview();
}

function choose() {
  touches += 1;
  settleAsked();
}

const settleAsked = newestOnly(guarded(() => settle((id) => api.look(id, asked()))));
const move = (where) => guarded(() => settle((id) => api.move(id, where)))();
// To the look that was chosen, from sliders that were moved on.
function back() {
  touches += 1;
  setControls(faces.get(current));
  showPicture();
}

const reset = guarded(() => settle((id) => api.look(id, {})));

// A face that is being inverted is asked how it goes.

let polling = 0;
function poll() {
  clearTimeout(polling);
  if ([...faces.values()].some(busy)) polling = setTimeout(ask, POLL);
}

const ask = async () => {
  for (const [id, old] of faces) {
    if (!busy(old)) continue;
    const state = await api.face(id).catch((error) => faces.has(id) && tell(error.message));
    if (!state || !faces.has(id)) continue; // it may have been closed meanwhile
    keep(state);
    if (id !== current) continue;
    if (state.phase !== old.phase) speak(state);
    if (state.version !== old.version) refresh();
    else if (state.aligned && !old.aligned) showBefore();
  }
  poll();
};

// For who cannot see it.
function speak(state) {
  const words = { refining: "A first guess is there", ready: "The face is found", failed: "The face could not be found" };
  element("spoken").textContent = words[state.phase] ?? "";
}

// Saving

const save = guarded(async (button) => {
  const text = button.textContent;
  button.disabled = true;
  button.textContent = "Writing …";
  try {
    const { name, data } = await api.save(current, button.dataset.save);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(data), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } finally {
    button.disabled = false;
    button.textContent = text;
  }
});

const copy = guarded(async () => {
  await navigator.clipboard.writeText(faces.get(current).command);
  element("copy").textContent = "Copied";
  setTimeout(() => (element("copy").textContent = "Copy"), 1500);
});

// Wiring

function keys(event) {
  if (event.target.matches("input:not([type=range], [type=checkbox], [type=radio]), textarea")) return;
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  if (command && (key === "z" || key === "y")) {
    event.preventDefault();
    const where = key === "y" || event.shiftKey ? "redo" : "undo";
    if (where === "undo" && dropMove()) back();
    else if (!element(where).disabled) move(where);
  } else if (key === "b" && !command) stage.holdBefore(true);
}

function dropping() {
  const page = document.documentElement;
  addEventListener("dragover", (event) => {
    event.preventDefault();
    page.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || page.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    page.classList.remove("dropping");
    openFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => openFiles(event.clipboardData.files));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  sessionStorage.setItem("theme", theme);
}

function wire() {
  const clicks = {
    choose: () => element("file").click(),
    random: openRandom,
    add: startPage,
    back: () => open(current),
    undo: () => move("undo"),
    redo: () => move("redo"),
    reset,
    copy,
    stop: guarded(async () => keep(await api.move(current, "stop"))),
    theme: () => {
      const dark = getComputedStyle(document.documentElement).getPropertyValue("--scheme").trim() === "dark";
      setTheme(dark ? "light" : "dark");
    },
  };
  for (const [id, work] of Object.entries(clicks)) element(id).addEventListener("click", work);
  element("file").addEventListener("change", async (event) => {
    await openFiles([...event.target.files]);
    event.target.value = "";
  });
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button));
  for (const radio of document.querySelectorAll("[name=compare]")) radio.addEventListener("change", showBefore);
  addEventListener("keydown", keys);
  addEventListener("keyup", (event) => event.key.toLowerCase() === "b" && stage.holdBefore(false));
  addEventListener("blur", () => stage.holdBefore(false));
  dropping();
}

const begin = guarded(async () => {
  limits = await api.overview();
  sliders.build(limits, drag, choose);
  style.build(limits, drag, choose);
  for (const state of limits.faces) faces.set(state.id, state);
  const last = sessionStorage.getItem("face");
  if (faces.size) open(faces.has(last) ? last : [...faces.keys()][0]);
  else startPage();
});

if (sessionStorage.getItem("theme")) setTheme(sessionStorage.getItem("theme"));
const begun = begin();
wire();
