// libyang: YANG schemas and data. Swift sees neither variadic functions nor sized arrays: they are wrapped here.
#pragma once
#include <libyang/libyang.h>

/// A list instance by the values of its keys in schema order; libyang has a variadic function for that.
static inline LY_ERR cyang_new_list(
    struct lyd_node *parent, const struct lys_module *module, const char *name, const char *const *k, int count, struct lyd_node **node) {
    switch (count) {
    case 0: return lyd_new_list(parent, module, name, 0, node);
    case 1: return lyd_new_list(parent, module, name, 0, node, k[0]);
    case 2: return lyd_new_list(parent, module, name, 0, node, k[0], k[1]);
    case 3: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2]);
    case 4: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2], k[3]);
    case 5: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2], k[3], k[4]);
    case 6: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2], k[3], k[4], k[5]);
    case 7: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2], k[3], k[4], k[5], k[6]);
    case 8: return lyd_new_list(parent, module, name, 0, node, k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7]);
    default: return LY_EINVAL;
    }
}

/// The yang-library data of all modules, with a content id of the caller's.
static inline LY_ERR cyang_yang_library(const struct ly_ctx *context, struct lyd_node **root, const char *content) {
    return ly_ctx_get_yanglib_data(context, root, "%s", content);
}

static inline LY_ARRAY_COUNT_TYPE cyang_when_count(struct lysc_when *const *whens) { return LY_ARRAY_COUNT(whens); }
static inline LY_ARRAY_COUNT_TYPE cyang_must_count(const struct lysc_must *musts) { return LY_ARRAY_COUNT(musts); }
static inline LY_ARRAY_COUNT_TYPE cyang_type_count(struct lysc_type *const *types) { return LY_ARRAY_COUNT(types); }
static inline LY_ARRAY_COUNT_TYPE cyang_unique_count(struct lysc_node_leaf ***uniques) { return LY_ARRAY_COUNT(uniques); }

/// The nodes that an expression of the schema may touch.
static inline LY_ERR cyang_when_atoms(const struct lysc_when *when, const struct lysc_node *node, struct ly_set **set) {
    const struct lysc_node *context = when->context;
    return lys_find_expr_atoms(context, node->module, when->cond, when->prefixes, 0, set);
}
static inline LY_ERR cyang_must_atoms(const struct lysc_must *must, const struct lysc_node *node, struct ly_set **set) {
    return lys_find_expr_atoms(node, node->module, must->cond, must->prefixes, 0, set);
}
static inline LY_ERR cyang_leafref_atoms(const struct lysc_type *type, const struct lysc_node *node, struct ly_set **set) {
    const struct lysc_type_leafref *leafref = (const struct lysc_type_leafref *)type;
    return lys_find_expr_atoms(node, node->module, leafref->path, leafref->prefixes, 0, set);
}
