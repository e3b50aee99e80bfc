// libyang: YANG schemas and data.
#pragma once
#include <libyang/libyang.h>
