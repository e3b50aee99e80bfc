// Design of codes without an error floor.
//
// A cycle of k degree-2 core columns in the lifted core graph is a word of weight about k (1 + d), d being the LDGM rows at such a column:
// with probability Q(sqrt(k (1 + d) SNR)) the decoder ends in it. So degree-2 columns are few, have the larger d, stand evenly on the core
// rows (a near-regular graph whose vertices are core rows and whose edges are these columns), and get shifts that close no
// short walk of that graph: coordinate descent, one column at a time, on the summed probabilities of all closed walks that a shift
// would allow. Degree-3 columns then take the best of some random triples of shifts by distance in the lifted core graph, and LDGM
// rows are drawn such that no two columns meet twice with the same difference of shifts.
//
// Elements of the lift group are numbers 64 block + lane. A row's edge (column, g) joins its check element h to the column's h + g.

#include "ldpc_designer.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_EDGES = 24, PER_ROW = 64, MULTIPLES = 8, LDGM_DEGREE = 4, FAR = 50, REACH = 5 };

typedef struct {
    int degree, column[ROW_EDGES], shift[ROW_EDGES];
} row;

typedef struct {
    ldpc_recipe recipe;
    uint64_t state;
    int columns, size, rows;      // core columns, order of the lift group, all rows
    row *row;
    int *from, *to, *voltage;     // degree-2 columns as edges between core rows, with the difference of their shifts
    int (*incident)[PER_ROW], *incidents;
    int *multiple[MULTIPLES];     // sorted by m x: the x, for each m
    int *multiple_start[MULTIPLES];
    double *cost, weight[64];     // cost of each shift of the column at hand; weight of a walk by length
    uint8_t *met;                 // bit (c1 columns + c2) size + g: columns c1 and c2 already meet with difference g
    int *distance, *queue, *together;
} designer;

// MARK: Random numbers and the group

static uint64_t next(designer *d) {
    uint64_t z = (d->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static int below(designer *d, int n) { return (int)(next(d) % (uint64_t)n); }

static inline int add(const designer *d, int x, int y) {
    const int block = (x >> 6) + (y >> 6);
    return (block < d->recipe.blocks ? block : block - d->recipe.blocks) << 6 | ((x + y) & 63);
}

static inline int negative(const designer *d, int x) {
    const int block = x >> 6;
    return (block ? d->recipe.blocks - block : 0) << 6 | (-x & 63);
}

static inline int difference(const designer *d, int x, int y) { return add(d, x, negative(d, y)); }

// MARK: Degree-2 columns

/// The pair of rows with the fewest columns so far; few double edges and triangles; ties by chance.
static void place_degree2(designer *d) {
    const int rows = d->recipe.core_rows;
    int *degree = d->queue, *joined = d->together;
    memset(degree, 0, (size_t)rows * sizeof *degree);
    memset(joined, 0, (size_t)(rows * rows) * sizeof *joined);
    for (int c = 0; c < d->recipe.degree2; c++) {
        int from = -1, to = -1;
        double best = 1e18;
        for (int u = 0; u < rows; u++)
            for (int w = u + 1; w < rows; w++) {
                int triangles = 0;
                for (int x = 0; x < rows; x++) triangles += joined[u * rows + x] && joined[w * rows + x];
                const double cost = 1000. * (degree[u] + degree[w]) + 300. * abs(degree[u] - degree[w]) + 5000. * joined[u * rows + w] +
                                    10. * triangles + below(d, 100) * .05;
                if (cost < best) best = cost, from = u, to = w;
            }
        d->from[c] = from;
        d->to[c] = to;
        degree[from]++, degree[to]++, joined[from * rows + to]++, joined[to * rows + from]++;
    }
}

/// Walks on from `vertex` without turning back and charges each closed one to the shifts of column `e` that close it. `count` is how often
/// `e` was walked, signed; `sum` the voltages of the others.
static void charge(designer *d, int e, int vertex, int last, bool last_reverse, int length, int count, int sum) {
    for (int i = 0; i < d->incidents[vertex]; i++) {
        const int c = d->incident[vertex][i];
        const bool reverse = d->from[c] != vertex;
        if (c == last && reverse != last_reverse) continue;
        const int there = reverse ? d->from[c] : d->to[c], now = length + 1;
        int times = count, total = sum;
        if (c == e)
            times += reverse ? -1 : 1;
        else
            total = add(d, total, reverse ? negative(d, d->voltage[c]) : d->voltage[c]);
        // The walk began with `e` forward: it closes at e's first vertex, unless it came back along e.
        if (there == d->from[e] && !(c == e && reverse) && times != 0 && abs(times) < MULTIPLES) {
            const int m = abs(times), target = times > 0 ? negative(d, total) : total;
            for (int k = d->multiple_start[m][target]; k < d->multiple_start[m][target + 1]; k++)
                d->cost[d->multiple[m][k]] += d->weight[now] / m;
        }
        if (now < d->recipe.walk_limit) charge(d, e, there, c, reverse, now, times, total);
    }
}

/// For each m the solutions x of m x = t, t by t.
static void find_multiples(designer *d) {
    for (int m = 1; m < MULTIPLES; m++) {
        int *start = d->multiple_start[m];
        memset(start, 0, (size_t)(d->size + 2) * sizeof *start);
        for (int pass = 0; pass < 2; pass++) {
            for (int x = 0; x < d->size; x++) {
                int t = 0;
                for (int k = 0; k < m; k++) t = add(d, t, x);
                if (pass == 0)
                    start[t + 2]++;
                else
                    d->multiple[m][start[t + 1]++] = x;
            }
            if (pass == 0)
                for (int t = 0; t < d->size; t++) start[t + 2] += start[t + 1];
        }
    }
}

static void weigh_walks(designer *d) {
    const ldpc_recipe *r = &d->recipe;
    const double w = r->ldgm_degree_of_degree2 + 1;
    for (int k = 1; k <= r->walk_limit; k++)
        d->weight[k] = .5 * erfc(sqrt(w * k * r->snr / 2)) / .5 / erfc(sqrt(w * r->walk_limit * r->snr / 2)) / 2;
}

/// The cheapest shift for column `e`; whether it changed. Equal costs are drawn among.
static bool improve(designer *d, int e) {
    memset(d->cost, 0, (size_t)d->size * sizeof *d->cost);
    charge(d, e, d->to[e], e, false, 1, 1, 0);
    double best = 1e300;
    int equal = 0, choice = d->voltage[e];
    for (int g = 0; g < d->size; g++) {
        if (d->cost[g] < best - 1e-9)
            best = d->cost[g], equal = 1, choice = g;
        else if (d->cost[g] < best + 1e-9 && below(d, ++equal) == 0)
            choice = g;
    }
    if (!(d->cost[d->voltage[e]] > best + 1e-9)) return false;
    d->voltage[e] = choice;
    return true;
}

static void append(row *r, int column, int shift) {
    r->column[r->degree] = column;
    r->shift[r->degree++] = shift;
}

static bool design_degree2(designer *d) {
    const ldpc_recipe *r = &d->recipe;
    place_degree2(d);
    for (int c = 0; c < r->degree2; c++) {
        if (d->incidents[d->from[c]] == PER_ROW || d->incidents[d->to[c]] == PER_ROW) return false;
        d->incident[d->from[c]][d->incidents[d->from[c]]++] = c;
        d->incident[d->to[c]][d->incidents[d->to[c]]++] = c;
        d->voltage[c] = below(d, d->size);
    }
    find_multiples(d);
    weigh_walks(d);
    for (int sweep = 0; sweep < r->sweeps; sweep++) {
        int changes = 0;
        for (int q = 0; q < r->degree2; q++) {
            const int drawn = below(d, r->degree2);
            changes += improve(d, sweep == 0 ? q : drawn);
        }
        if (sweep > 0 && changes == 0) break;
    }
    for (int c = 0; c < r->degree2; c++) {
        const int shift = below(d, d->size);
        if (d->row[d->from[c]].degree == ROW_EDGES || d->row[d->to[c]].degree == ROW_EDGES) return false;
        append(&d->row[d->from[c]], c, shift);
        append(&d->row[d->to[c]], c, difference(d, shift, d->voltage[c]));
    }
    return true;
}

// MARK: Degree-3 columns

/// Distances in the lifted core graph, in columns, from one check; up to REACH.
static void measure(designer *d, int start) {
    const int rows = d->recipe.core_rows;
    int head = 0, tail = 0;
    memset(d->distance, -1, (size_t)(rows * d->size) * sizeof *d->distance);
    d->distance[start] = 0;
    d->queue[tail++] = start;
    while (head < tail) {
        const int x = d->queue[head++];
        if (d->distance[x] >= REACH) break;
        const row *here = &d->row[x / d->size];
        for (int j = 0; j < here->degree; j++) {
            const int element = add(d, x % d->size, here->shift[j]);
            for (int other = 0; other < rows; other++) {
                if (other == x / d->size) continue;
                for (int k = 0; k < d->row[other].degree; k++) {
                    if (d->row[other].column[k] != here->column[j]) continue;
                    const int y = other * d->size + difference(d, element, d->row[other].shift[k]);
                    if (d->distance[y] >= 0) continue;
                    d->distance[y] = d->distance[x] + 1;
                    d->queue[tail++] = y;
                }
            }
        }
    }
}

/// The shortest way between any two of the checks that column element 0 would join.
static int nearest(designer *d, const int rows[3], const int shift[3]) {
    int shortest = 99;
    for (int from = 0; from < 2; from++) {
        measure(d, rows[from] * d->size + negative(d, shift[from]));
        for (int to = from + 1; to < 3; to++) {
            const int way = d->distance[rows[to] * d->size + negative(d, shift[to])];
            const int length = way < 0 ? FAR : way;
            if (length < shortest) shortest = length;
        }
    }
    return shortest;
}

/// Three different rows with the fewest edges and the least used together, of 4000 draws.
static void choose_rows(designer *d, int rows[3]) {
    const int n = d->recipe.core_rows;
    double best = 1e18;
    for (int trial = 0; trial < 4000; trial++) {
        int x[3];
        x[0] = below(d, n);
        do x[1] = below(d, n);
        while (x[1] == x[0]);
        do x[2] = below(d, n);
        while (x[2] == x[0] || x[2] == x[1]);
        double cost = 0;
        for (int j = 0; j < 3; j++) {
            const int degree = d->row[x[j]].degree;
            cost += 1000. * degree + 200. * degree * degree;
            for (int k = j + 1; k < 3; k++) cost += 40. * d->together[x[j] * n + x[k]];
        }
        if (cost < best) best = cost, memcpy(rows, x, sizeof x);
    }
}

static bool design_degree3(designer *d) {
    const int n = d->recipe.core_rows;
    memset(d->together, 0, (size_t)(n * n) * sizeof *d->together);
    for (int c = d->recipe.degree2; c < d->columns; c++) {
        int rows[3], best[3] = {0}, far = -1;
        choose_rows(d, rows);
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++) d->together[rows[j] * n + rows[k]] += k != j;
        for (int trial = 0; trial < 40 && far < FAR; trial++) {
            int shift[3];
            for (int j = 0; j < 3; j++) shift[j] = below(d, d->size);
            const int way = nearest(d, rows, shift);
            if (way > far) far = way, memcpy(best, shift, sizeof best);
        }
        for (int j = 0; j < 3; j++) {
            if (d->row[rows[j]].degree == ROW_EDGES) return false;
            append(&d->row[rows[j]], c, best[j]);
        }
    }
    return true;
}

// MARK: LDGM rows

static size_t meeting(const designer *d, int c1, int c2, int g) {
    return ((size_t)c1 * (size_t)d->columns + (size_t)c2) * (size_t)d->size + (size_t)g;
}

static bool has_met(const designer *d, int c1, int c2, int g) {
    const size_t p = meeting(d, c1, c2, g);
    return d->met[p / 8] >> (p % 8) & 1;
}

static void meet(designer *d, const row *r) {
    for (int j = 0; j < r->degree; j++)
        for (int k = 0; k < r->degree; k++) {
            if (j == k) continue;
            const size_t p = meeting(d, r->column[j], r->column[k], difference(d, r->shift[j], r->shift[k]));
            d->met[p / 8] |= (uint8_t)(1 << (p % 8));
        }
}

/// Draws `degree` different columns by the sockets they have left; false after 50 vain draws of one.
static bool draw_columns(designer *d, const int *left, int sockets, int degree, int *column) {
    for (int j = 0; j < degree; j++) {
        bool fresh = false;
        for (int trial = 0; !fresh && trial < 50; trial++) {
            int pick = below(d, sockets), c = 0;
            while (pick >= left[c]) pick -= left[c++];
            column[j] = c;
            fresh = true;
            for (int k = 0; k < j; k++) fresh = fresh && column[k] != c;
        }
        if (!fresh) return false;
    }
    return true;
}

/// The best of 3000 draws: columns with many sockets left that were seldom together.
static bool choose_columns(designer *d, const int *left, const int *together, int degree, int *column) {
    double best = 1e18;
    int sockets = 0;
    for (int c = 0; c < d->columns; c++) sockets += left[c];
    for (int trial = 0; trial < 3000; trial++) {
        int drawn[LDGM_DEGREE];
        if (!draw_columns(d, left, sockets, degree, drawn)) continue;
        double cost = 0;
        for (int j = 0; j < degree; j++) {
            cost -= .3 * left[drawn[j]];
            for (int k = 0; k < j; k++) cost += 10. * together[drawn[j] * d->columns + drawn[k]];
        }
        cost += below(d, 1000) * 1e-5;
        if (cost < best) best = cost, memcpy(column, drawn, sizeof drawn);
    }
    return best < 1e17;
}

/// Shifts under which the row's columns have not met before; the first edge has none (normal form).
static bool choose_shifts(designer *d, row *r) {
    for (int trial = 0; trial < 500; trial++) {
        bool good = true;
        for (int j = 0; j < r->degree; j++) r->shift[j] = j ? below(d, d->size) : 0;
        for (int j = 0; j < r->degree; j++)
            for (int k = j + 1; k < r->degree; k++)
                good = good && !has_met(d, r->column[j], r->column[k], difference(d, r->shift[j], r->shift[k]));
        if (good) return true;
    }
    return false;
}

/// Sockets of the core columns, as even as can be within degree-2 and degree-3 columns.
static void share_sockets(const designer *d, int *left) {
    const ldpc_recipe *r = &d->recipe;
    const int two = (int)lrint(r->ldgm_degree_of_degree2 * r->degree2), three = r->ldgm_edges - two;
    for (int c = 0; c < r->degree2; c++) left[c] = two / r->degree2 + (c < two % r->degree2);
    for (int c = 0; c < r->degree3; c++) left[r->degree2 + c] = three / r->degree3 + (c < three % r->degree3);
}

static bool design_ldgm(designer *d) {
    const ldpc_recipe *r = &d->recipe;
    const int count = d->rows - r->core_rows, larger = r->ldgm_edges % count;
    int *left = calloc((size_t)d->columns, sizeof *left), *together = calloc((size_t)(d->columns * d->columns), sizeof *together);
    bool good = left && together;
    if (good) share_sockets(d, left);
    for (int i = 0; i < r->core_rows; i++) meet(d, &d->row[i]);
    for (int i = 0; good && i < count; i++) {
        row *here = &d->row[r->core_rows + i];
        here->degree = r->ldgm_edges / count + (i >= count - larger);
        good = here->degree <= LDGM_DEGREE && choose_columns(d, left, together, here->degree, here->column) && choose_shifts(d, here);
        for (int j = 0; good && j < here->degree; j++) {
            left[here->column[j]]--;
            for (int k = 0; k < here->degree; k++) together[here->column[j] * d->columns + here->column[k]] += k != j;
        }
        if (good) meet(d, here);
    }
    free(left);
    free(together);
    return good;
}

// MARK: The whole

static bool prepare(designer *d) {
    const ldpc_recipe *r = &d->recipe;
    const size_t size = (size_t)d->size, core = (size_t)r->core_rows, columns = (size_t)d->columns;
    d->row = calloc((size_t)d->rows, sizeof *d->row);
    d->from = calloc(columns, sizeof *d->from);
    d->to = calloc(columns, sizeof *d->to);
    d->voltage = calloc(columns, sizeof *d->voltage);
    d->incident = calloc(core, sizeof *d->incident);
    d->incidents = calloc(core, sizeof *d->incidents);
    d->cost = calloc(size, sizeof *d->cost);
    d->met = calloc(columns * columns * size / 8 + 1, 1);
    d->distance = calloc(core * size, sizeof *d->distance);
    d->queue = calloc(core * size, sizeof *d->queue);
    d->together = calloc(core * core, sizeof *d->together);
    bool good = d->row && d->from && d->to && d->voltage && d->incident && d->incidents && d->cost && d->met && d->distance && d->queue &&
                d->together;
    for (int m = 1; m < MULTIPLES; m++) {
        d->multiple[m] = calloc(size, sizeof(int));
        d->multiple_start[m] = calloc(size + 2, sizeof(int));
        good = good && d->multiple[m] && d->multiple_start[m];
    }
    return good;
}

static void discard(designer *d) {
    free(d->row), free(d->from), free(d->to), free(d->voltage), free(d->incident), free(d->incidents);
    free(d->cost), free(d->met), free(d->distance), free(d->queue), free(d->together);
    for (int m = 1; m < MULTIPLES; m++) free(d->multiple[m]), free(d->multiple_start[m]);
}

/// Rows in their final order: the last `tail_rows` are the ones that finer rates leave out, among them `tail_lower` of the lower degree,
/// evenly spread; both kinds are taken from the end of theirs, where sockets are drawn most evenly.
static bool order_rows(const designer *d, int *order) {
    const ldpc_recipe *r = &d->recipe;
    const int lower = r->ldgm_edges / (d->rows - r->core_rows), others = r->tail_rows - r->tail_lower;
    int change = r->core_rows;
    while (change < d->rows && d->row[change].degree == lower) change++;
    if (r->tail_lower < 0 || others < 0 || change - r->core_rows < r->tail_lower || d->rows - change < others) return false;
    int next_lower = change - r->tail_lower, next_other = d->rows - others, count = 0;
    for (int i = 0; i < next_lower; i++) order[count++] = i;
    for (int i = change; i < d->rows - others; i++) order[count++] = i;
    for (int i = 0; i < r->tail_rows; i++) {
        const bool take_lower = (i + 1) * r->tail_lower / r->tail_rows > i * r->tail_lower / r->tail_rows;
        order[count++] = take_lower ? next_lower++ : next_other++;
    }
    return true;
}

static size_t write_table(const designer *d, const int *order, uint8_t *table, size_t capacity) {
    size_t bytes = 0;
    for (int i = 0; i < d->rows; i++) {
        const row *r = &d->row[order[i]];
        if (capacity - bytes < 1 + 3 * (size_t)r->degree) return 0;
        table[bytes++] = (uint8_t)r->degree;
        for (int j = 0; j < r->degree; j++) {
            table[bytes++] = (uint8_t)r->column[j];
            table[bytes++] = (uint8_t)(r->shift[j] & 63);
            table[bytes++] = (uint8_t)(r->shift[j] >> 6);
        }
    }
    return bytes;
}

size_t ldpc_design_table(const ldpc_recipe *recipe, uint8_t *table, size_t capacity) {
    const ldpc_recipe *r = recipe;
    const int columns = r->degree2 + r->degree3;
    if (r->degree2 < 1 || r->degree3 < 1 || columns > 256 || r->base_columns <= columns || r->core_rows < 3 || r->core_rows > 256 ||
        r->blocks < 1 || r->blocks > 256 || r->walk_limit < 1 || r->walk_limit > 63 || r->tail_rows < 0 ||
        r->ldgm_edges < 2 * (r->base_columns - columns))
        return 0;
    designer d = {.recipe = *r, .columns = columns, .size = 64 * r->blocks, .rows = r->core_rows + r->base_columns - columns};
    d.state = r->seed * 0x51ed270b9f6aull + 12345;
    size_t bytes = 0;
    int *order = calloc((size_t)d.rows, sizeof *order);
    if (order && prepare(&d) && design_degree2(&d) && design_degree3(&d) && design_ldgm(&d) && order_rows(&d, order))
        bytes = write_table(&d, order, table, capacity);
    free(order);
    discard(&d);
    return bytes;
}
