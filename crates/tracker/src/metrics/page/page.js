"use strict";
// The live page. It asks the tracker that it came from for figures every two seconds, and for new
// slots of the history when there are some. While the page is hidden it asks for nothing.

const POLL_MS = 2000;
const RETRY_MS_MAX = 30000;
const ANSWER_MS_MAX = 10000;
// Rates of reasons are averages over this time.
const REASONS_MS = 10000;

const byId = (id) => document.getElementById(id);
const embedded = (id) => JSON.parse(byId(id).textContent);

// A packed series of the history: see `Value::pack` of the tracker.
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NOT_KNOWN = 64 ** 3 - 1;

function unpack(text) {
  const values = [];
  for (let at = 0; at < text.length; at += 3) {
    const number = [...text.slice(at, at + 3)]
      .reduce((sum, digit) => 64 * sum + DIGITS.indexOf(digit), 0);
    const power = Math.floor(number / 10000) - 2;
    const seen = number % 10000;
    values.push(number === NOT_KNOWN ? null : power < 0 ? seen / 100 : seen * 10 ** power);
  }
  return values;
}

function unpacked(history) {
  const series = Object.entries(history.series).map(([name, text]) => [name, unpack(text)]);
  return { ...history, series: Object.fromEntries(series) };
}

// ---- Words and numbers ------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const count = (number) => whole.format(number);
const rate = (number) => (number < 10 ? oneDigit : whole).format(number);
const percent = (share) => `${oneDigit.format(100 * share)} %`;

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1000 && unit < units.length - 1; unit += 1) number /= 1024;
  return `${(number < 10 && unit > 0 ? oneDigit : whole).format(number)} ${units[unit]}`;
}

const MEGABITS = 8 / 1e6;
const megabits = (bytesPerSecond) => `${rate(MEGABITS * bytesPerSecond)} Mbit/s`;

function milliseconds(ms) {
  return ms < 10 ? `${ms.toPrecision(2)} ms` : `${whole.format(ms)} ms`;
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400);
  const clock = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
  const text = clock.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
  return days > 0 ? `${days} d ${text}` : text;
}

const time = (unix) => new Date(1000 * unix).toISOString().slice(0, 19).replace("T", " ") + " UTC";
const clock = (date) => date.toTimeString().slice(0, 8);
const words = (label) => label.replaceAll("_", " ");
const protocolName = { udp: "UDP", http: "HTTP", ws: "WebTorrent" };
const familyName = { ipv4: "IPv4", ipv6: "IPv6" };
const FAMILIES = ["ipv4", "ipv6"];

// ---- Elements ---------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, children = [], namespace) {
  const made = namespace ? document.createElementNS(namespace, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[children].flat());
  return made;
}

const svg = (name, attributes, children) => element(name, attributes, children, SVG);

// Writes only what has changed, so that a selection and a screen reader are not disturbed.
function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// ---- Charts -----------------------------------------------------------------------------------

const PLOT = { left: 44, right: 6, top: 8, bottom: 20 };

// A bound that is 1, 2 or 5 times a power of ten, with some room above the largest value.
function roundBound(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

class Chart {
  // `lines` are [key, name] pairs of series; `show` writes a value. The axis reaches at least to
  // `least`, so that next to nothing does not look like much. Values are drawn times `scale`.
  constructor(title, lines, show, { least = 10, scale = 1, axis = (value) => short.format(value) }
    = {}) {
    Object.assign(this, { title, lines, show, least, scale, axis, slots: 0, at: null });
    const id = `chart-${title.replaceAll(/\W+/g, "-")}`;
    this.legend = element("ul", { class: "legend" });
    this.desc = svg("desc", { id: `${id}-desc` });
    this.drawing = svg("g");
    this.plot = svg("svg", {
      class: "plot", role: "img", tabindex: "0",
      "aria-labelledby": id, "aria-describedby": `${id}-desc`,
    }, [this.desc, this.drawing]);
    this.values = lines.map((_, index) => element("b", { "data-line": index }));
    this.legend.append(...lines.map(([, name], index) => element("li", {}, [
      svg("svg", { "aria-hidden": "true" }, svg("path", { class: `line s${index}`, d: "M0 4H16" })),
      `${name} `, this.values[index],
    ])));
    this.body = element("tbody");
    this.table = element("details", {}, [
      element("summary", {}, "As a table"),
      element("div", { class: "scroll" }, element("table", {}, [
        element("thead", {}, element("tr", {}, [
          element("th", { scope: "col" }, "Minutes ago"),
          ...lines.map(([, name]) => element("th", { scope: "col" }, name)),
        ])), this.body,
      ])),
    ]);
    this.table.addEventListener("toggle", () => this.fillTable());
    this.card = element("figure", { class: "card" }, [
      element("div", { class: "chart-head" }, [element("h3", { id }, title), this.legend]),
      this.plot, this.table,
    ]);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.pick(null));
    this.plot.addEventListener("blur", () => this.pick(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  update(history) {
    this.slots = history.slots_max;
    this.minutes = history.slot_seconds / 60;
    this.data = this.lines.map(([key]) => history.series[key] ?? []);
    this.draw();
    if (this.table.open) this.fillTable();
  }

  get length() { return this.data?.[0]?.length ?? 0; }

  x(index) {
    const width = this.width - PLOT.left - PLOT.right;
    return PLOT.left + width * (1 - (this.length - 1 - index) / (this.slots - 1));
  }

  draw() {
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    if (!this.data || !this.width) return;
    const known = this.data.flat().filter((value) => value !== null);
    const bound = roundBound(Math.max(this.least, this.scale * Math.max(0, ...known)));
    const bottom = this.height - PLOT.bottom;
    const y = (scaled) => bottom - (bottom - PLOT.top) * scaled / bound;
    const parts = [0, bound / 2, bound].flatMap((value) => [
      svg("path", { class: "grid", d: `M${PLOT.left} ${Math.round(y(value))}H${this.width}` }),
      svg("text", { x: PLOT.left - 6, y: y(value) + 4, "text-anchor": "end" },
        this.axis(value)),
    ]);
    for (const [share, label, anchor] of [
      [0, "60 min ago", "start"], [0.5, "30 min ago", "middle"], [1, "now", "end"],
    ]) {
      const x = PLOT.left + share * (this.width - PLOT.left - PLOT.right);
      parts.push(svg("text", { x, y: this.height - 4, "text-anchor": anchor }, label));
    }
    this.data.forEach((values, index) => {
      const { line, area } = this.path(values, (value) => y(this.scale * value), bottom);
      parts.push(svg("path", { class: `area s${index}`, d: area }));
      parts.push(svg("path", { class: `line s${index}`, d: line }));
    });
    if (this.length < 2) {
      const x = (PLOT.left + this.width) / 2;
      parts.push(svg("text", { x, y: (bottom + PLOT.top) / 2, "text-anchor": "middle" },
        "Charts begin after some seconds"));
    }
    if (this.at !== null) {
      parts.push(svg("path", { class: "cursor", d: `M${this.x(this.at)} ${PLOT.top}V${bottom}` }));
    }
    this.drawing.replaceChildren(...parts);
    this.describe();
  }

  // Slots of which nothing is known interrupt the line.
  path(values, y, bottom) {
    let line = "", area = "", start = null;
    values.forEach((value, index) => {
      if (value === null) { start = null; return; }
      const x = this.x(index).toFixed(1);
      line += `${start === null ? "M" : "L"}${x} ${y(value).toFixed(1)}`;
      if (start === null) area += `${area ? "Z" : ""}M${x} ${bottom}`;
      start ??= x;
      area += `L${x} ${y(value).toFixed(1)}`;
      if (values[index + 1] === undefined || values[index + 1] === null) area += `V${bottom}`;
    });
    return { line, area: area && `${area}Z` };
  }

  describe() {
    const at = this.at ?? this.length - 1;
    this.data.forEach((values, index) => {
      const value = values[at];
      write(this.values[index], value === undefined || value === null ? "–" : this.show(value));
    });
    const told = this.lines.map(([, name], index) => {
      const known = this.data[index].filter((value) => value !== null);
      if (known.length === 0) return `${name}: nothing yet`;
      const [low, high] = [Math.min(...known), Math.max(...known)].map(this.show);
      return `${name}: now ${this.show(known.at(-1))}, lowest ${low}, highest ${high}`;
    });
    write(this.desc, `${told.join(". ")}. Arrow keys show earlier values.`);
  }

  pick(index) {
    if (index === this.at) return;
    this.at = index;
    this.draw();
    byId("hour-note").textContent = index === null ? "" :
      `Values of ${rate((this.length - 1 - index) * this.minutes)} min ago`;
  }

  point(event) {
    if (this.length < 2) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const step = (this.width - PLOT.left - PLOT.right) / (this.slots - 1);
    const index = Math.round(this.length - 1 - (this.width - PLOT.right - x) / step);
    this.pick(Math.max(0, Math.min(this.length - 1, index)));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
    if (event.key === "Escape") this.pick(null);
    if (!step || this.length < 2) return;
    event.preventDefault();
    const index = (this.at ?? this.length - 1) + step;
    this.pick(Math.max(0, Math.min(this.length - 1, index)));
  }

  // One row for every five minutes.
  fillTable() {
    if (!this.table.open || !this.data) return;
    const rows = [];
    for (let ago = 0; ago <= 60; ago += 5) {
      const index = this.length - 1 - Math.round(ago / this.minutes);
      if (index < 0) break;
      rows.push([count(ago), ...this.data.map((values) =>
        (values[index] === null ? "–" : this.show(values[index])))]);
    }
    fill(this.body, rows);
  }
}

// ---- Tables -----------------------------------------------------------------------------------

const cell = (content, index) => {
  const children = content instanceof Node ? [content] : [String(content)];
  return index === 0 ? element("th", { scope: "row" }, children) : element("td", {}, children);
};

function fill(body, rows) {
  body.replaceChildren(...rows.map((row) => element("tr", {}, row.map(cell))));
}

class Table {
  constructor(title, columns, isWide) {
    this.body = element("tbody");
    const id = `table-${title.replaceAll(/\W+/g, "-")}`;
    const heads = columns.map((column) => element("th", { scope: "col" }, column));
    const table = element("table", { "aria-labelledby": id },
      [element("thead", {}, element("tr", {}, heads)), this.body]);
    this.scroll = element("div", { class: "scroll", role: "region", "aria-labelledby": id }, table);
    this.card = element("div", { class: isWide ? "card wide" : "card" },
      [element("h3", { id }, title), this.scroll]);
    byId("tables").append(this.card);
    new ResizeObserver(() => this.fit()).observe(this.scroll);
  }

  // A table that has nothing to say is not there.
  update(rows) {
    this.card.hidden = rows.length === 0;
    fill(this.body, rows);
    this.fit();
  }

  // Who has no pointer scrolls what has the focus.
  fit() {
    const { scrollWidth, clientWidth } = this.scroll;
    if (scrollWidth > clientWidth) this.scroll.tabIndex = 0;
    else this.scroll.removeAttribute("tabindex");
  }
}

function meter(share, name) {
  return element("meter", {
    min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: share, "aria-label": name,
  });
}

// ---- What is shown ----------------------------------------------------------------------------

const page = {
  history: unpacked(embedded("history")), charts: [], tables: {}, reasons: [], started: null,
};

function makeCharts(figures) {
  const protocols = Object.keys(figures.protocols);
  const requests = protocols.flatMap((protocol) => FAMILIES.map((family) => [
    `requests_${protocol}_${family}`,
    protocols.length > 1 ? `${protocolName[protocol] ?? protocol} ${familyName[family]}`
      : familyName[family],
  ]));
  const used = ([key]) => (page.history.series[key] ?? []).some((value) => value > 0);
  const shown = requests.some(used) ? requests.filter(used) : requests.slice(0, 1);
  const hasConnections = Boolean(page.history.series.connections);
  const key = [...shown.map(([series]) => series), hasConnections].join();
  if (page.charts.length > 0 && page.chartKey === key) return;
  page.chartKey = key;
  page.charts = [
    new Chart("Requests per second", shown, rate),
    new Chart("Peers", [["seeders", "seeders"], ["leechers", "leechers"]], count),
    new Chart("Not served per second", [["refused", "refused"], ["dropped", "dropped"]], rate),
    new Chart("Traffic in Mbit/s", [["received_bytes", "received"], ["sent_bytes", "sent"]],
      (value) => rate(MEGABITS * value), { least: 1, scale: MEGABITS }),
    new Chart("CPU, all threads", [["cpus_busy", "of one CPU"]], percent,
      { least: 0.1, axis: percent }),
    page.history.series.connections
      ? new Chart("Connections", [["connections", "open"]], count)
      : new Chart("Torrents", [["torrents", "torrents"]], count),
  ];
  byId("charts").replaceChildren(...page.charts.map((chart) => chart.card));
}

function tile(name, value, note) {
  write(document.querySelector(`[data-figure="${name}"]`), value);
  write(document.querySelector(`[data-figure="${name}-note"]`), note);
}

const unknown = "–";
const orUnknown = (value, show) => (value === null || value === undefined ? unknown : show(value));

function showTiles(figures) {
  const { rates, process } = figures;
  const lost = rates.dropped + rates.refused;
  const hasBegun = FAMILIES.some((family) => figures[family].received_bytes > 0);
  tile("requests", rate(rates.requests), hasBegun
    ? `${rate(rates.responses)} responses, ${rate(lost)} not served`
    : "No client has asked since the start");
  tile("peers", count(figures.peers),
    `${count(figures.seeders)} seeders, ${count(figures.leechers)} leechers`);
  const countsTwice = FAMILIES.every((family) => figures[family].torrents > 0);
  tile("torrents", count(figures.torrents), `${count(figures.completed)} downloads completed` +
    (countsTwice ? "; torrents of both IPv4 and IPv6 count twice" : ""));
  const memory = orUnknown(process.resident_memory_bytes, bytes);
  tile("fourth", orUnknown(process.cpus_busy, percent), `of one CPU, ${memory} of memory`);
}

function familyRows(figures) {
  const several = Object.keys(figures.protocols).length > 1;
  const rows = [];
  for (const [protocol, part] of Object.entries(figures.protocols)) {
    for (const family of FAMILIES) {
      const own = part[family];
      if (own.received_bytes === 0 && !own.peers) continue;
      const { rates } = own;
      const name = protocolName[protocol] ?? protocol;
      rows.push([several ? `${name} over ${familyName[family]}` : familyName[family],
        rate(rates.requests), rate(rates.responses), megabits(rates.received_bytes),
        megabits(rates.sent_bytes), orUnknown(own.connections, count),
        orUnknown(own.torrents, count), orUnknown(own.seeders, count),
        orUnknown(own.leechers, count)]);
    }
  }
  return rows;
}

// Sums of an object of numbers over both families.
function sums(part, kind) {
  const all = {};
  for (const family of FAMILIES) {
    for (const [label, number] of Object.entries(part[family][kind])) {
      all[label] = (all[label] ?? 0) + number;
    }
  }
  return all;
}

function reasonRows(figures) {
  const now = performance.now();
  page.reasons = page.reasons.filter(({ at }) => now - at < REASONS_MS);
  page.reasons.push({ at: now, figures });
  const [{ figures: before }] = page.reasons;
  const seconds = figures.uptime_seconds - before.uptime_seconds;
  const rows = [];
  for (const kind of ["refused", "dropped"]) {
    const earlier = sums(before, kind);
    for (const [label, number] of Object.entries(sums(figures, kind))) {
      if (number === 0) continue;
      const perSecond = seconds > 0 ? (number - earlier[label]) / seconds : 0;
      rows.push([`${kind}: ${words(label)}`, count(number), rate(perSecond)]);
    }
  }
  return rows;
}

function answerRows(figures) {
  const rows = [];
  for (const [protocol, { response_time: times }] of Object.entries(figures.protocols)) {
    if (!times) continue;
    const show = (seconds) => orUnknown(seconds, () => milliseconds(1000 * seconds));
    rows.push([protocolName[protocol] ?? protocol, show(times.p50_seconds),
      show(times.p90_seconds), show(times.p99_seconds)]);
  }
  return rows;
}

function fileRows(figures) {
  const rows = [];
  const add = (name, isGood, at, more) => rows.push([name,
    isGood ? "good" : element("span", { class: "problem" }, "failed"), orUnknown(at, time), more]);
  const { persistence } = figures;
  const read = (name, file, what) => file && add(`${name} read`, file.last_reload_successful,
    file.last_reload_time, what ? `${count(file.entries ?? 0)} ${what}` : "");
  read("Configuration", figures.configuration);
  read("Access list", figures.access_list, "torrents");
  read("Denied networks", figures.denied_networks, "networks");
  read("Keys", figures.keys, "keys");
  const written = (name, file) => add(name, file.last_write_successful, file.last_write_time,
    orUnknown(file.file_bytes, bytes));
  if (persistence) written("Swarms written", persistence);
  for (const [protocol, part] of Object.entries(figures.protocols)) {
    if (part.persistence) {
      written(`Swarms of ${protocolName[protocol] ?? protocol} written`, part.persistence);
    }
    read(`Certificate of ${protocolName[protocol] ?? protocol}`, part.tls);
    if (!part.certificate_expiry_time) continue;
    const days = (part.certificate_expiry_time - figures.time) / 86400;
    add(`Certificate of ${protocolName[protocol] ?? protocol} ends`, days > 0,
      part.certificate_expiry_time, days > 0 ? `in ${count(Math.floor(days))} days` : "expired");
  }
  return rows;
}

function makeTables() {
  page.tables = {
    families: new Table("Protocols and address families", ["Clients of", "requests/s",
      "responses/s", "received", "sent", "connections", "torrents", "seeders", "leechers"], true),
    reasons: new Table("Not served", ["Reason", "total", "per second"]),
    threads: new Table("Busiest threads", ["Thread", "of one CPU"]),
    answers: new Table("Time to answer", ["Lately", "half within", "90 % within", "99 % within"]),
    clients: new Table("Clients", ["Software", "peers", "share"]),
    files: new Table("Files and certificates", ["What", "state", "when", "details"]),
  };
}

function showTables(figures) {
  const { tables } = page;
  tables.families.update(familyRows(figures));
  tables.reasons.update(reasonRows(figures));
  tables.answers.update(answerRows(figures));
  const works = ({ name, load }) => load >= 0.001 || (load !== null && /socket|swarm/.test(name));
  const busy = figures.threads.filter(works)
    .sort((one, other) => other.load - one.load).slice(0, 10);
  tables.threads.update(busy.map(({ name, load }) => [name, element("div", { class: "share" },
    [meter(load, `Load of ${name}`), element("span", {}, percent(load))])]));
  tables.clients.update(figures.clients.slice(0, 20).map(({ client, peers: own }) =>
    [client, count(own), percent(own / figures.clients_peers)]));
  tables.files.update(fileRows(figures));
}

function showFacts(figures) {
  const { process } = figures;
  const files = process.open_files === null ? ""
    : `, ${count(process.open_files)} open files of ${orUnknown(process.open_files_max, count)}`;
  write(byId("facts"), `Version ${figures.version}, up ${duration(figures.uptime_seconds)} ` +
    `since ${time(process.start_time)}${files}`);
}

function show(figures) {
  showTiles(figures);
  showTables(figures);
  showFacts(figures);
}

// Takes new slots into the history, and drops those that are older than an hour.
function extend(history, added) {
  for (const [name, values] of Object.entries(added.series)) {
    const all = [...(history.series[name] ?? []), ...values];
    history.series[name] = all.slice(-added.slots_max);
  }
  history.newest = added.newest;
}

function showHistory(figures) {
  makeCharts(figures);
  for (const chart of page.charts) chart.update(page.history);
}

// ---- Asking -----------------------------------------------------------------------------------

function state(kind, text) {
  byId("state").className = `state ${kind}`;
  document.body.classList.toggle("gone-figures", kind === "gone");
  write(byId("state-text"), text);
}

async function ask(path) {
  const options = { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) };
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

const poll = { timer: null, goneSince: null, failures: 0, isAsking: false };

async function refresh() {
  const figures = await ask("stats.json");
  if (figures.process.start_time !== page.started) {
    // Another process: what the earlier one has counted is no beginning for differences.
    page.history = unpacked(await ask("history.json?packed"));
    page.started = figures.process.start_time;
    page.reasons = [];
    showHistory(figures);
  } else if (Math.floor(figures.uptime_seconds / page.history.slot_seconds) > page.history.newest) {
    const path = `history.json?packed&after=${page.history.newest}`;
    extend(page.history, unpacked(await ask(path)));
    showHistory(figures);
  }
  show(figures);
}

async function tick() {
  if (poll.isAsking) return;
  poll.isAsking = true;
  let wait = POLL_MS;
  try {
    await refresh();
    Object.assign(poll, { goneSince: null, failures: 0 });
    state("live", "Live");
  } catch (error) {
    poll.goneSince ??= new Date();
    poll.failures += 1;
    wait = Math.min(RETRY_MS_MAX, POLL_MS * 2 ** (poll.failures - 1));
    state("gone", `No answer since ${clock(poll.goneSince)}; these figures are old`);
  }
  poll.isAsking = false;
  if (!document.hidden) poll.timer = setTimeout(tick, wait);
}

function askAgain() {
  clearTimeout(poll.timer);
  if (!document.hidden) tick();
}

const first = embedded("figures");
page.started = first.process.start_time;
showTiles(first);
state("live", "Live");
// Tables and charts take longer than all before them, so the tiles are painted first. Nobody waits
// for the picture of a page that is hidden.
const afterPaint = (work) => requestAnimationFrame(() => setTimeout(work));
(document.hidden ? setTimeout : afterPaint)(() => {
  for (const part of document.querySelectorAll(".live[hidden]")) part.hidden = false;
  makeTables();
  show(first);
  showHistory(first);
  document.addEventListener("visibilitychange", askAgain);
  // The network is back.
  addEventListener("online", askAgain);
  if (!document.hidden) poll.timer = setTimeout(tick, POLL_MS);
});
