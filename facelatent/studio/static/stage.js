// The picture: the edited face, the wipe to the one before, progress.

const element = (id) => document.getElementById(id);
const stage = element("stage");
const after = element("after");
const before = element("before");
const wipe = element("wipe");

// Pictures are asked for in an order and may come in another: an older one never replaces a newer.
let asked = 0;
let shown = 0;

export const nextSerial = () => ++asked;

export async function show(picture, serial, kind, command = "") {
  const bitmap = await createImageBitmap(picture);
  if (serial < shown) return;
  shown = serial;
  after.width = bitmap.width;
  after.height = bitmap.height;
  after.getContext("2d").drawImage(bitmap, 0, 0);
  after.dataset.shown = kind;
  after.dataset.serial = serial;
  after.dataset.command = command; // which draws this picture
  stage.classList.remove("empty");
}

export function showBefore(picture) {
  URL.revokeObjectURL(before.src);
  before.hidden = wipe.hidden = !picture;
  if (picture) before.src = URL.createObjectURL(picture);
  place();
}

export function clear() {
  shown = nextSerial();
  after.getContext("2d").clearRect(0, 0, after.width, after.height);
  after.dataset.shown = "";
  stage.classList.add("empty");
  wipe.value = 0;
  showBefore(null);
}

let held = false;
function place() {
  const part = before.hidden ? 0 : held ? 100 : Number(wipe.value);
  stage.style.setProperty("--wipe", `${part}%`);
  stage.classList.toggle("wiping", part > 0);
  element("tag-before").hidden = part === 0;
}
wipe.addEventListener("input", place);

export function holdBefore(down) {
  held = down;
  place();
}

const words = {
  aligning: () => "Finding the face …",
  inverting: (step) => describe("Looking for the face", step),
  refining: (step) => describe("A first guess: edit away. Making it more like the photo", step),
};

function describe(text, step) {
  if (step.what === "waiting") return `${text}: it waits for its turn`;
  return step.total ? `${text}: ${step.what} ${step.done} of ${step.total}` : `${text} …`;
}

export function progress(state) {
  const text = words[state.phase];
  element("progress").hidden = !text;
  element("stop").hidden = state.phase === "aligning";
  if (!text) return;
  element("progress-text").textContent = text(state.step);
  const bar = element("progress-bar");
  if (state.step.total) bar.value = state.step.done / state.step.total;
  else bar.removeAttribute("value");
}

export const busy = (on) => stage.classList.toggle("busy", on);
